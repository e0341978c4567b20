"""Who acts, seen from outside: tokens in and tokens out, or messages in and a message out."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    """Batches committed when the sampling weights were published; None where nobody counts."""

    def __post_init__(self) -> None:
        if self.maybe_logprobs is not None and len(self.maybe_logprobs) != len(self.tokens):
            raise ShapeError(
                f"TokensWithLogprobs.maybe_logprobs: expected {len(self.tokens)} values, one per "
                f"token; got {len(self.maybe_logprobs)}. Pass the sampler's logprobs unchanged."
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
