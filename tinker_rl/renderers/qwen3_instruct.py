"""The format of Qwen3 Instruct (2507): the library's Qwen3, without blocks of reasoning."""

from __future__ import annotations

from typing import Any

from renderers import Qwen3Renderer, Qwen3RendererConfig

__all__ = ["Qwen3InstructFormat"]


class Qwen3InstructFormat(Qwen3Renderer):
    """Writes every answer as plain text: ChatML, with Qwen3's tool calls.

    The library renders these models as hybrid Qwen3, which puts an empty block of reasoning into
    the last turn; their own template has none.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, Qwen3RendererConfig(thinking_retention="all"))

    @property
    def is_prefix_stable(self) -> bool:
        """Nothing is taken out of history."""
        return True

    @staticmethod
    def _last_query_index(messages: list[Any]) -> int:
        # The library adds the block to turns after the last query: there is none after this.
        return len(messages)
