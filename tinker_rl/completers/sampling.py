"""Completers over a `SamplingClient`: a model answers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from tinker_rl.completers.types import (
    MessageCompleter,
    StopCondition,
    TokenCompleter,
    TokensWithLogprobs,
)
from tinker_rl.errors import PromptTooLongError, RequestError
from tinker_rl.renderers import Message, Renderer
from tinker_rl.types import ModelInput, SampleResponse, SamplingParams

__all__ = ["Sampler", "TinkerMessageCompleter", "TinkerTokenCompleter"]


class Sampler(Protocol):
    """The one method of a `SamplingClient` that completers call."""

    def sample(
        self, prompt: ModelInput, num_samples: int, sampling_params: SamplingParams
    ) -> Awaitable[SampleResponse]:
        """Queue a request; awaiting what comes back gives its result."""
        ...


class TinkerTokenCompleter(TokenCompleter):
    """Samples continuations from a model."""

    def __init__(
        self,
        sampling_client: Sampler,
        max_tokens: int,
        temperature: float = 1.0,
        context_window: int | None = None,
        policy_version: int | None = None,
    ) -> None:
        """Set how to sample.

        Args:
            sampling_client: The model.
            max_tokens: Most tokens of a continuation.
            temperature: 0 is greedy.
            context_window: Most tokens of prompt and continuation together; longer continuations
                are cut to fit. None: the engine's own limit, which raises instead.
            policy_version: Version of the client's weights, for the record.
        """
        if max_tokens < 1:
            raise RequestError(
                f"TinkerTokenCompleter.max_tokens: expected 1 or more; got {max_tokens}. "
                "Leave room for an answer."
            )
        self.sampling_client = sampling_client
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.context_window = context_window
        self.policy_version = policy_version

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        response = await self.sampling_client.sample(
            prompt=model_input,
            num_samples=1,
            sampling_params=SamplingParams(
                max_tokens=self._room(model_input, max_tokens),
                stop=stop,
                temperature=self.temperature,
            ),
        )
        sequence = response.sequences[0]
        return TokensWithLogprobs(
            tokens=sequence.tokens,
            maybe_logprobs=sequence.logprobs,
            stop_reason=sequence.stop_reason,
            policy_version=self.policy_version,
        )

    def _room(self, model_input: ModelInput, max_tokens: int | None) -> int:
        """Most tokens that the continuation may have."""
        room = self.max_tokens if max_tokens is None else min(self.max_tokens, max_tokens)
        if self.context_window is not None:
            room = min(room, self.context_window - model_input.length)
        if room < 1:
            raise PromptTooLongError(
                f"TinkerTokenCompleter: expected a prompt that leaves room for one token at least "
                f"in a context of {self.context_window} tokens (max_tokens={max_tokens}); got one "
                f"of {model_input.length}. Shorten the prompt, or use a model of longer context."
            )
        return room


class TinkerMessageCompleter(MessageCompleter):
    """Samples answers to conversations from a model."""

    def __init__(
        self,
        sampling_client: Sampler,
        renderer: Renderer,
        max_tokens: int,
        stop_condition: StopCondition | None = None,
        temperature: float = 1.0,
        context_window: int | None = None,
    ) -> None:
        """Set how to sample.

        Args:
            sampling_client: The model.
            renderer: Its chat format.
            max_tokens: Most tokens of an answer.
            stop_condition: What ends an answer; None: the renderer's stop sequences.
            temperature: 0 is greedy.
            context_window: As in `TinkerTokenCompleter`.
        """
        self.renderer = renderer
        self.stop_condition: StopCondition = (
            renderer.get_stop_sequences() if stop_condition is None else stop_condition
        )
        self._complete = TinkerTokenCompleter(
            sampling_client, max_tokens, temperature, context_window
        )

    async def __call__(self, messages: list[Message]) -> Message:
        prompt = self.renderer.build_generation_prompt(messages)
        answer = await self._complete(prompt, self.stop_condition)
        message, _ = self.renderer.parse_response(answer.tokens)
        return message
