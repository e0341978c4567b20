"""The renderer for base models: `User: ...` and `Assistant: ...`, paragraph by paragraph."""

from __future__ import annotations

from collections.abc import Sequence

from tinker_rl.errors import RequestError, UnsupportedError
from tinker_rl.renderers.base import ParseTermination, Renderer, Rendering, Tokenizer
from tinker_rl.renderers.messages import Message, Role, ToolSpec, ensure_text

__all__ = ["RoleColonRenderer"]

STOP = "\n\nUser:"


class RoleColonRenderer(Renderer):
    """Turns as paragraphs that begin with a role and a colon; needs no special token."""

    has_extension_property = True

    def __init__(self, tokenizer: Tokenizer, name: str = "role_colon") -> None:
        super().__init__(tokenizer, name)
        bos = tokenizer.bos_token_id
        self._bos: list[int] = [] if bos is None else [int(bos)]
        self._eos: int | None = tokenizer.eos_token_id
        self._stop_overlap = self._encode("User:")

    def get_stop_sequences(self) -> list[str]:
        """The header of the next user turn."""
        return [STOP]

    def parse_response(self, response: Sequence[int]) -> tuple[Message, ParseTermination]:
        tokens = [int(token) for token in response]
        end = tokens.index(self._eos) if self._eos in tokens else len(tokens)
        text = self._decode(tokens[:end])
        content, stop, _ = text.partition(STOP)
        message = Message(
            role="assistant", content=content.removeprefix(" ").removesuffix("" if stop else "\n\n")
        )
        if stop:
            # The last token completes the stop, or sampling went on after it.
            at_end = end == len(tokens) and STOP not in self._decode(tokens[:-1])
            return message, (
                ParseTermination.STOP_SEQUENCE if at_end else ParseTermination.MALFORMED
            )
        return message, (
            ParseTermination.EOS if end == len(tokens) - 1 else ParseTermination.MALFORMED
        )

    def _render_prompt(
        self, messages: Sequence[Message], role: Role, tools: list[ToolSpec] | None
    ) -> list[int]:
        turns = self._turns(messages, tools)
        return [*self._bos, *(t for turn in turns for t in turn), *self._encode(_header(role))]

    def _render_example(
        self, messages: Sequence[Message], trained: frozenset[int], tools: list[ToolSpec] | None
    ) -> Rendering:
        tokens = list(self._bos)
        indices, output = [-1] * len(tokens), [False] * len(tokens)
        for position, part in enumerate(self._turns(messages, tools)):
            index, is_output = divmod(position, 2)
            tokens += part
            indices += [index] * len(part)
            output += [bool(is_output)] * len(part)
        if messages[-1]["role"] == "assistant":
            # The rest of the stop sequence; before a user turn its header is that.
            tokens += self._stop_overlap
            indices += [len(messages) - 1] * len(self._stop_overlap)
            output += [True] * len(self._stop_overlap)
        return Rendering(tokens, indices, output)

    def _turns(self, messages: Sequence[Message], tools: list[ToolSpec] | None) -> list[list[int]]:
        """Header and content of each turn, alternately."""
        if tools or any("tool_calls" in message for message in messages):
            raise UnsupportedError(
                "renderer 'role_colon': expected messages without tools; got some. Use a renderer "
                "made for a chat model's family."
            )
        parts: list[list[int]] = []
        for index, message in enumerate(messages):
            content = ensure_text(message["content"])
            if message["role"] == "assistant" and STOP in content:
                raise RequestError(
                    f"renderer 'role_colon': messages[{index}]: expected an answer without "
                    f"{STOP!r}, which ends it; got one at character {content.index(STOP)}. "
                    "Split the message."
                )
            parts.append(self._encode(_header(message["role"])))
            parts.append(self._encode(f" {content}\n\n"))
        return parts

    def _extend(
        self,
        prompt: list[int],
        action: list[int],
        new_messages: Sequence[Message],
        tools: list[ToolSpec] | None,
    ) -> list[int] | None:
        """The action must end with the header of the user turn that comes next, and no further."""
        ends_well = self._decode(action).endswith(STOP)
        if not ends_well or new_messages[0]["role"] != "user":
            return None
        turns = self._turns(new_messages, tools)[1:]
        return [*prompt, *action, *(t for turn in turns for t in turn), *self._encode("Assistant:")]


def _header(role: Role) -> str:
    return f"{role.capitalize()}:"
