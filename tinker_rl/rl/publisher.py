"""Publishing a run's weights, and what becomes of the run where the sampler does not take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from tinker_rl.errors import SamplerError, WeightSyncError
from tinker_rl.policies import LivePolicy

if TYPE_CHECKING:
    from tinker_rl.requests import WeightSync

__all__ = ["OnWeightSyncError", "Publication", "Publisher"]

OnWeightSyncError: TypeAlias = Literal["stop", "continue"]


class Publication(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How the weights of a step were published, or failed to be."""

    metrics: dict[str, float]
    """`sync/<name>`."""
    fatal: Exception | None
    """The error that ends the run, once the step is written down; None if it goes on."""


class Publisher:
    """Publishes each version of a run's weights once; what fails is never acted with.

    Args:
        policy: What acts; after a failure it keeps the version before.
        on_error: Whether a version that the sampler does not have as the learner does ends the run.
        max_failures: Failures in a row that end it in any case.
        say: Shows a line to the user.
    """

    def __init__(
        self,
        policy: LivePolicy,
        on_error: OnWeightSyncError,
        max_failures: int,
        say: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._max_failures = max_failures if on_error == "continue" else 1
        self._say = say
        self._num_failures = 0
        """In a row."""

    async def publish(self, num_batches_committed: int, *, is_last: bool) -> Publication:
        """Publish the present weights as version `num_batches_committed`.

        Cancelled, they are not published.

        Args:
            is_last: Whether no version follows, that could mend it.
        """
        try:
            policy = await self._policy.publish(num_batches_committed)
        except Exception as error:
            return self._failed(num_batches_committed, error, is_last)
        self._num_failures = 0
        metrics = _sync_metrics(policy.sampling_client.weight_sync)
        return Publication(metrics={**metrics, "sync/failures": 0}, fatal=None)

    def _failed(self, version: int, error: Exception, is_last: bool) -> Publication:
        self._num_failures += 1
        metrics: dict[str, float] = {"sync/failures": self._num_failures}
        is_mendable = isinstance(error, WeightSyncError) and not is_last
        if isinstance(error, WeightSyncError) and error.difference is not None:
            metrics["sync/max_abs_logprob_diff"] = error.difference
        if is_mendable and self._num_failures < self._max_failures:
            self._say(
                f"version {version} is not acted with ({self._num_failures} of at most "
                f"{self._max_failures} failures in a row); version {self._policy.policy_version} "
                f"goes on until one is published that the sampler takes: {error}"
            )
            return Publication(metrics=metrics, fatal=None)
        if isinstance(error, WeightSyncError | SamplerError):
            self._say(
                f"version {version} could not be published, so the run stops. Its training is "
                "kept: the same command goes on from there, and publishes it anew"
            )
        return Publication(metrics=metrics, fatal=error)


def _sync_metrics(sync: WeightSync | None) -> dict[str, float]:
    """What the proof of a version tells; empty where there is none."""
    if sync is None:
        return {}
    metrics = {
        "sync/score_seconds": sync.score_seconds,
        "sync/load_seconds": sync.load_seconds,
        "sync/probe_seconds": sync.probe_seconds,
    }
    if sync.max_abs_logprob_diff is not None:
        metrics["sync/max_abs_logprob_diff"] = sync.max_abs_logprob_diff
    return metrics
