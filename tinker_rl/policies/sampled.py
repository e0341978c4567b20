"""Acts by sampling from versions of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tinker_rl.completers import StopCondition, TokenCompleter, TokensWithLogprobs
from tinker_rl.errors import CompleterError
from tinker_rl.policies.gate import Priority, SamplerGate
from tinker_rl.policies.in_flight import InFlight
from tinker_rl.policies.parts import ActionParts
from tinker_rl.policies.seeds import EpisodeKey
from tinker_rl.types import EncodedTextChunk, ModelInput, SampledSequence, SamplingParams

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["SampledActions", "Weights"]


class Weights(Protocol):
    """One version of the weights."""

    @property
    def sampling_client(self) -> SamplingClient:
        """Who samples from them."""
        ...

    @property
    def policy_version(self) -> int | None:
        """What their tokens are marked with; None for weights outside the count."""
        ...


class SampledActions(TokenCompleter):
    """Completes one episode, turn by turn, each time with the weights that act then.

    Every turn has a seed of its own, and every token says which version sampled it. An action whose
    sampling is interrupted goes on from its tokens with the weights that act by then; how its parts
    are joined, `ActionParts` says.

    Args:
        weights: Gives the weights that act now.
        key: The episode.
        max_tokens: Most tokens of one action.
        temperature: Of the sampler.
        in_flight: Where a sample is noted while it is waited for, so that it can be interrupted.
        gate: Grants the sampler's slots; None: every request is sent at once.
        rank: What the priority at the gate begins with; the group and the member come after it.
    """

    def __init__(
        self,
        weights: Callable[[], Weights],
        key: EpisodeKey,
        *,
        max_tokens: int,
        temperature: float = 1.0,
        in_flight: InFlight | None = None,
        gate: SamplerGate | None = None,
        rank: Priority = (),
    ) -> None:
        self._weights = weights
        self._key = key
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._in_flight = InFlight() if in_flight is None else in_flight
        self._gate = gate
        self._priority = (*rank, key.group, key.member)
        self._num_turns = 0

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        """Sample the next action; see `TokenCompleter`."""
        limit = self._max_tokens if max_tokens is None else min(max_tokens, self._max_tokens)
        turn = self._num_turns
        self._num_turns += 1
        parts = ActionParts(limit, stop, self._decode)
        while True:
            prompt = model_input
            if parts.num_parts:
                prompt = model_input.append(EncodedTextChunk(tuple(parts.tokens)))
            params = SamplingParams(
                max_tokens=parts.room,
                seed=self._key.sampling_seed(turn, parts.num_parts),
                stop=stop,
                temperature=self._temperature,
            )
            sequence, version = await self._sample(prompt, params)
            if sequence.logprobs is None:
                raise CompleterError(
                    "SampledActions: expected the logprobs of the sampled tokens; got none. Sample "
                    "from an engine that returns them."
                )
            parts.add(sequence.tokens, sequence.logprobs, sequence.stop_reason, version)
            if parts.is_complete:
                return parts.action()

    async def _sample(
        self, prompt: ModelInput, params: SamplingParams
    ) -> tuple[SampledSequence, int | None]:
        """One request, of the weights that act when it is sent; and their version."""
        if self._gate is None:
            return await self._send(prompt, params)
        async with self._gate.slot(self._priority) as slot:
            sequence, version = await self._send(prompt, params)
            slot.num_tokens = len(sequence.tokens)
            return sequence, version

    async def _send(
        self, prompt: ModelInput, params: SamplingParams
    ) -> tuple[SampledSequence, int | None]:
        weights = self._weights()
        future = weights.sampling_client.sample(prompt, 1, params)
        with self._in_flight.hold(weights.sampling_client, future):
            response = await future
        (sequence,) = response.sequences
        return sequence, weights.policy_version

    def _decode(self, tokens: list[int]) -> str:
        return self._weights().sampling_client.get_tokenizer().decode(tokens)
