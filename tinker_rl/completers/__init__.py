"""Completers: whoever continues a prompt, or answers a conversation."""

from tinker_rl.completers.types import (
    MessageCompleter,
    StopCondition,
    TokenCompleter,
    TokensWithLogprobs,
)

__all__ = ["MessageCompleter", "StopCondition", "TokenCompleter", "TokensWithLogprobs"]
