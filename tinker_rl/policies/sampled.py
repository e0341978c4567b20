"""Acts by sampling from one version of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinker_rl.completers import StopCondition, TokenCompleter, TokensWithLogprobs
from tinker_rl.errors import CompleterError
from tinker_rl.policies.seeds import EpisodeKey
from tinker_rl.types import ModelInput, SamplingParams

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["SampledActions"]


class SampledActions(TokenCompleter):
    """Completes one episode, turn by turn, from a sampling client whose weights never change.

    Every turn has a seed of its own, and every action says which version sampled it.
    """

    def __init__(
        self,
        sampling_client: SamplingClient,
        key: EpisodeKey,
        *,
        max_tokens: int,
        temperature: float = 1.0,
        policy_version: int | None = None,
    ) -> None:
        self._sampling_client = sampling_client
        self._key = key
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._policy_version = policy_version
        self._num_turns = 0

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        """Sample the next action; see `TokenCompleter`."""
        limit = self._max_tokens if max_tokens is None else min(max_tokens, self._max_tokens)
        params = SamplingParams(
            max_tokens=limit,
            seed=self._key.sampling_seed(self._num_turns),
            stop=stop,
            temperature=self._temperature,
        )
        self._num_turns += 1
        response = await self._sampling_client.sample_async(model_input, 1, params)
        (sequence,) = response.sequences
        if sequence.logprobs is None:
            raise CompleterError(
                "SampledActions: expected the logprobs of the sampled tokens; got none. Sample "
                "from an engine that returns them."
            )
        return TokensWithLogprobs(
            tokens=sequence.tokens,
            maybe_logprobs=sequence.logprobs,
            stop_reason=sequence.stop_reason,
            policy_version=self._policy_version,
        )
