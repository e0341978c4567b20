"""The policy in training, and the numbers of its versions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tinker_rl.completers import TokenCompleter
from tinker_rl.errors import RequestError
from tinker_rl.policies.frozen import FrozenPolicy
from tinker_rl.policies.gate import SamplerGate
from tinker_rl.policies.in_flight import InFlight
from tinker_rl.policies.sampled import SampledActions
from tinker_rl.policies.seeds import EpisodeKey
from tinker_rl.policies.types import Policy, Refresh

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient, TrainingClient

__all__ = ["LivePolicy"]


class LivePolicy:
    """Acts with the newest published weights of a model in training.

    `policy_version` counts the batches committed when the weights were published; only this class
    gives out these numbers. `refresh` says when a running episode takes up a newer version:

    - `never`: an episode keeps the version of its first action;
    - `turn`: each turn takes the version that is newest at its start, and keeps it to its end;
    - `publish`: as `turn`, and what is being sampled when a version is published is interrupted,
      and goes on from its tokens under the new weights.

    A version that could not be published changes nothing: the one before acts on.

    Args:
        training_client: The model in training.
        max_tokens: Most tokens of one action.
        temperature: Of the sampler.
        refresh: When a running episode takes up newer weights.
        gate: Grants the sampler's slots, to the oldest groups first; None: every request is sent at
            once.
    """

    def __init__(
        self,
        training_client: TrainingClient,
        *,
        max_tokens: int,
        temperature: float = 1.0,
        refresh: Refresh = "never",
        gate: SamplerGate | None = None,
    ) -> None:
        self._training_client = training_client
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._refresh: Refresh = refresh
        self._gate = gate
        self._versions: dict[int, FrozenPolicy] = {}
        self._in_flight = InFlight()

    @property
    def policy_version(self) -> int:
        """The newest published version; -1 before the first."""
        return max(self._versions, default=-1)

    async def publish(self, num_batches_committed: int) -> FrozenPolicy:
        """Give the present weights to the sampler, as version `num_batches_committed`.

        Cancelled, the version is not published; the sampler may hold weights that nobody uses,
        which it frees.

        Returns:
            The policy that acts with exactly these weights.
        Raises:
            WeightSyncError: if the sampler does not have them as the learner does.
            UnsupportedError: if running samples are to be interrupted, and the engine cannot.
        """
        if num_batches_committed <= self.policy_version:
            raise RequestError(
                f"LivePolicy.publish: expected a version above {self.policy_version}; got "
                f"{num_batches_committed}. Count the batches committed so far."
            )
        client = await self._training_client.save_weights_and_get_sampling_client_async()
        policy = self.adopt(num_batches_committed, client)
        if self._refresh == "publish":
            self._in_flight.interrupt()
        return policy

    def adopt(self, policy_version: int, sampling_client: SamplingClient) -> FrozenPolicy:
        """Take in a version that was published in an earlier start, or elsewhere.

        Args:
            policy_version: Its number.
            sampling_client: Samples with its weights.
        Returns:
            The policy that acts with exactly these weights.
        """
        policy = FrozenPolicy(
            sampling_client,
            max_tokens=self._max_tokens,
            temperature=self._temperature,
            policy_version=policy_version,
            gate=self._gate,
        )
        self._versions[policy_version] = policy
        return policy

    def at(self, policy_version: int) -> Policy:
        """What acts in a group that starts at one published version.

        With `refresh="never"` it stays there; otherwise its episodes move on with the newest.

        Raises:
            RequestError: if that version was not published, or was retired.
        """
        pinned = self.pinned(policy_version)
        return pinned if self._refresh == "never" else self

    def pinned(self, policy_version: int) -> FrozenPolicy:
        """The policy that acts with exactly one published version, whatever `refresh` is.

        Raises:
            RequestError: if that version was not published, or was retired.
        """
        policy = self._versions.get(policy_version)
        if policy is None:
            raise RequestError(
                f"LivePolicy: expected one of the versions {sorted(self._versions)}; got "
                f"{policy_version}. Publish it first, or ask before it is retired."
            )
        return policy

    def retire(self, oldest_version_in_use: int) -> None:
        """Forget the versions below; the sampler frees each when its last user has ended."""
        newest = self.policy_version
        for version in [v for v in self._versions if v < min(oldest_version_in_use, newest)]:
            del self._versions[version]

    def completer(self, key: EpisodeKey) -> TokenCompleter:
        """What acts in one episode, from the version that is newest when its first action is sent
        to the sampler, which may be long after it began to wait for its turn."""
        return SampledActions(
            cache(self._newest) if self._refresh == "never" else self._newest,
            key,
            max_tokens=self._max_tokens,
            temperature=self._temperature,
            in_flight=self._in_flight,
            gate=self._gate,
        )

    def _newest(self) -> FrozenPolicy:
        return self.pinned(self.policy_version)
