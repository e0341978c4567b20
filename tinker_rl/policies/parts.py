"""An action that is sampled in parts, by one version of the weights after another. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tinker_rl.completers import StopCondition, TokensWithLogprobs
from tinker_rl.types import StopReason

__all__ = ["ActionParts", "Decode"]

Decode: TypeAlias = Callable[[list[int]], str]
"""The text of some tokens."""


class ActionParts:
    """Joins the parts of one action.

    What ends an action ends it across the seams too. Token ids cannot straddle a seam, and the
    limit is what the parts before leave of it. A stop string can, and the sampler of a part sees
    only that part: where the joined text completes one, the action ends with the token that does,
    and what was sampled after it is dropped. That is the same as having stopped there, since no
    token depends on those after it.

    Args:
        max_tokens: Most tokens of the action.
        stop: What ends it.
        decode: Its text; asked for where there are stop strings and a seam.
    """

    def __init__(self, max_tokens: int, stop: StopCondition, decode: Decode) -> None:
        self._max_tokens = max_tokens
        self._stops = [string for string in stop or () if isinstance(string, str)]
        self._decode = decode
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._spans: list[tuple[int | None, int]] = []
        self._stop_reason: StopReason = "interrupted"
        self._last_version: int | None = None

    @property
    def tokens(self) -> list[int]:
        """Tokens so far."""
        return list(self._tokens)

    @property
    def num_parts(self) -> int:
        """Parts that have tokens."""
        return len(self._spans)

    @property
    def room(self) -> int:
        """Tokens that the next part may have."""
        return self._max_tokens - len(self._tokens)

    @property
    def is_complete(self) -> bool:
        """Whether no part has to follow."""
        return self._stop_reason != "interrupted"

    def add(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        stop_reason: StopReason,
        policy_version: int | None,
    ) -> None:
        """Append what one version sampled."""
        end = self._end_across_seam(tokens)
        count = len(tokens) if end is None else end
        self._tokens += tokens[:count]
        self._logprobs += logprobs[:count]
        if count:
            self._spans.append((policy_version, count))
        if end is not None:
            stop_reason = "stop"
        elif stop_reason == "interrupted" and self.room == 0:
            stop_reason = "length"
        self._stop_reason, self._last_version = stop_reason, policy_version

    def _end_across_seam(self, tokens: Sequence[int]) -> int | None:
        """How many tokens complete a stop string that began before them; None if they do not."""
        if not self._stops or not self._tokens:
            return None
        window = 4 * max(map(len, self._stops)) + 4  # a character takes up to four tokens
        before, after = self._tokens[-window:], list(tokens[:window])

        def ends(count: int) -> bool:
            text = self._decode(before + after[:count])
            return any(string in text for string in self._stops)

        if not ends(len(after)):
            return None
        return next(count for count in range(1, len(after) + 1) if ends(count))

    def action(self) -> TokensWithLogprobs:
        """The action, with the version of each token."""
        spans: list[tuple[int, int]] = []
        for version, count in self._spans:
            if version is None:
                spans = []
                break
            if spans and spans[-1][0] == version:
                count += spans.pop()[1]
            spans.append((version, count))
        return TokensWithLogprobs(
            tokens=self._tokens,
            maybe_logprobs=self._logprobs,
            stop_reason=self._stop_reason,
            policy_version=self._spans[0][0] if self._spans else self._last_version,
            version_spans=tuple(spans) if len(spans) > 1 else None,
        )
