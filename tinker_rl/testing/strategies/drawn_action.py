"""One action of a scripted policy."""

from __future__ import annotations

import msgspec

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.types import StopReason

__all__ = ["DrawnAction"]


class DrawnAction(msgspec.Struct, frozen=True):
    """One action of a scripted policy."""

    tokens: tuple[int, ...]
    """Token ids, the stop token included where it ends with one."""
    stop_reason: StopReason = "stop"
    """`length` where it was cut off at its token limit."""
    kind: str = "valid"
    """One of `ACTION_KINDS`."""

    def completion(self) -> TokensWithLogprobs:
        """The same as a completer gives it; nothing else could have come, so logprobs are 0."""
        return TokensWithLogprobs(list(self.tokens), [0.0] * len(self.tokens), self.stop_reason)
