"""Who acts, seen from outside: tokens in and tokens out, or messages in and a message out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from tinker_rl.errors import RequestError, ShapeError
from tinker_rl.renderers import Message
from tinker_rl.types import ModelInput, StopReason

__all__ = ["MessageCompleter", "StopCondition", "TokenCompleter", "TokensWithLogprobs"]

if TYPE_CHECKING:
    StopCondition: TypeAlias = list[str] | list[int]
    """What ends an action: strings, or token ids."""
else:  # msgspec decodes into one list type, not into a union of two
    StopCondition = list[str | int]


class TokensWithLogprobs(msgspec.Struct, frozen=True):
    """What a policy sampled, and under which weights.

    Lists, as in the Tinker cookbook, so that code written for it runs unchanged; nothing here
    changes them after construction.
    """

    tokens: list[int]
    """Token ids in sampling order, the stop token included."""
    maybe_logprobs: list[float] | None
    """Natural log-probability of each token under the distribution it was drawn from; None where
    the completer has none (a person, a script)."""
    stop_reason: StopReason = "stop"
    """`stop`: the stop condition was met; `length`: the token limit was."""
    policy_version: int | None = None
    """Batches committed when the sampling weights were published; None where nobody counts. Where
    several versions sampled the action, that of its first token."""
    version_spans: tuple[tuple[int, int], ...] | None = None
    """(version, number of tokens) of each stretch of tokens, in order, where several versions
    sampled the action; None: all tokens are of `policy_version`."""

    def __post_init__(self) -> None:
        self._check_spans()
        if self.maybe_logprobs is not None and len(self.maybe_logprobs) != len(self.tokens):
            raise ShapeError(
                f"TokensWithLogprobs.maybe_logprobs: expected {len(self.tokens)} values, one per "
                f"token; got {len(self.maybe_logprobs)}. Pass the sampler's logprobs unchanged."
            )

    def _check_spans(self) -> None:
        spans = self.version_spans
        if spans is None:
            return
        if sum(count for _, count in spans) != len(self.tokens) or any(c < 1 for _, c in spans):
            raise ShapeError(
                f"TokensWithLogprobs.version_spans: expected numbers of tokens from 1 that add up "
                f"to {len(self.tokens)}; got {spans}. Count the tokens of each version."
            )
        if spans and spans[0][0] != self.policy_version:
            raise ShapeError(
                f"TokensWithLogprobs.policy_version: expected {spans[0][0]}, the version of the "
                f"first token; got {self.policy_version}. Take it from version_spans."
            )

    @property
    def spans(self) -> tuple[tuple[int | None, int], ...]:
        """(version, number of tokens) in order, however many versions there are."""
        if self.version_spans is not None:
            return self.version_spans
        return ((self.policy_version, len(self.tokens)),) if self.tokens else ()

    @property
    def token_versions(self) -> list[int | None]:
        """The version that sampled each token."""
        return [version for version, count in self.spans for _ in range(count)]

    def first(self, num_tokens: int, stop_reason: StopReason) -> TokensWithLogprobs:
        """The same with its first tokens alone, which ended for `stop_reason`."""
        spans = self.version_spans
        if spans is not None:
            starts = accumulate((count for _, count in spans), initial=0)
            left = [num_tokens - start for start in starts]
            spans = tuple((v, min(c, n)) for (v, c), n in zip(spans, left, strict=False) if n > 0)
        return TokensWithLogprobs(
            self.tokens[:num_tokens],
            None if self.maybe_logprobs is None else self.maybe_logprobs[:num_tokens],
            stop_reason,
            self.policy_version,
            spans,
        )

    @property
    def logprobs(self) -> list[float]:
        """The log-probabilities.

        Raises:
            RequestError: if the completer gave none.
        """
        if self.maybe_logprobs is None:
            raise RequestError(
                f"TokensWithLogprobs.logprobs: expected log-probabilities of {len(self.tokens)} "
                "tokens; got none from this completer. Sample from a model to train on its tokens."
            )
        return self.maybe_logprobs


class TokenCompleter(ABC):
    """Continues a prompt of tokens: the interface that reinforcement learning samples through."""

    @abstractmethod
    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        """Sample one continuation. Cancelled, it leaves nothing behind.

        Args:
            model_input: The prompt.
            stop: Strings or token ids that end the continuation.
            max_tokens: Most tokens of this one; an implementation's own limit still holds.
        Raises:
            PromptTooLongError: if the prompt leaves no room for an answer.
        """


class MessageCompleter(ABC):
    """Answers a conversation: the interface of judges, opponents and evaluations."""

    @abstractmethod
    async def __call__(self, messages: list[Message]) -> Message:
        """Give the assistant's next message. Cancelled, it leaves nothing behind.

        Args:
            messages: The conversation so far, oldest first.
        Raises:
            PromptTooLongError: if the conversation leaves no room for an answer.
        """
