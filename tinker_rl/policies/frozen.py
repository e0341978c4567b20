"""A policy whose weights never change: a teacher, a judge, a past self."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinker_rl.completers import TokenCompleter
from tinker_rl.policies.gate import Priority, SamplerGate
from tinker_rl.policies.sampled import SampledActions
from tinker_rl.policies.seeds import EpisodeKey

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["FrozenPolicy"]


class FrozenPolicy:
    """Acts with the weights of one sampling client.

    Args:
        sampling_client: Whose weights act.
        max_tokens: Most tokens of one action.
        temperature: Of the sampler; the logprobs are of the distribution after it.
        policy_version: What its actions are marked with; None for weights outside the count.
        gate: Grants the sampler's slots; None: every request is sent at once.
        rank: What the priority of its requests begins with; see `SampledActions`.
    """

    def __init__(
        self,
        sampling_client: SamplingClient,
        *,
        max_tokens: int,
        temperature: float = 1.0,
        policy_version: int | None = None,
        gate: SamplerGate | None = None,
        rank: Priority = (),
    ) -> None:
        self.sampling_client = sampling_client
        self.policy_version = policy_version
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._gate = gate
        self._rank = rank

    def completer(self, key: EpisodeKey) -> TokenCompleter:
        """What acts in one episode."""
        return SampledActions(
            lambda: self,
            key,
            max_tokens=self._max_tokens,
            temperature=self._temperature,
            gate=self._gate,
            rank=self._rank,
        )
