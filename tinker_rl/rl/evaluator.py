"""Evaluation on held-out problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from tinker_rl.envs import EnvGroupBuilder, RLDataset
from tinker_rl.policies import Actor, EpisodeKey, FrozenPolicy, Priority, SamplerGate
from tinker_rl.rl.error_budget import ErrorBudget
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.metrics import compute_trajectory_metrics
from tinker_rl.rl.outcomes import DroppedGroup, GroupOutcome, RolledOutGroup
from tinker_rl.rl.rollouts import do_group_rollout

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["RLTestSetEvaluator"]

NO_LIMITS = RolloutLimits()


class RLTestSetEvaluator:
    """Rolls out every group of a dataset once, at temperature 1, and averages what it reports.

    The seeds of the sampler depend on the seed and the name alone, so that two evaluations differ
    by their weights only.

    Args:
        dataset: Held-out problems.
        max_tokens: Most tokens of one action.
        name: Prefix of the metrics.
        seed: Of the sampler and the environments.
        limits: Bounds of an episode.
        max_concurrent_groups: Groups rolled out at a time.
        max_failed_group_fraction: Share of failed groups past which the evaluation raises. Failed
            groups are left out of the averages and counted; they are no wrong answers.
        on_progress: Called with the number of groups done, and of all.
        gate: Grants the sampler's slots; None: every request is sent at once.
        rank: Gives what the priority at the gate begins with, when an evaluation begins.
    """

    def __init__(
        self,
        dataset: RLDataset,
        max_tokens: int,
        name: str = "test",
        *,
        seed: int = 0,
        limits: RolloutLimits = NO_LIMITS,
        max_concurrent_groups: int = 256,
        max_failed_group_fraction: float = 0.2,
        on_progress: Callable[[int, int], None] | None = None,
        gate: SamplerGate | None = None,
        rank: Callable[[], Priority] = tuple,
    ) -> None:
        self.name = name
        self._builders = [b for index in range(len(dataset)) for b in dataset.get_batch(index)]
        self._max_tokens = max_tokens
        self._seed = seed
        self._limits = limits
        self._max_concurrent_groups = max_concurrent_groups
        self._max_failed_group_fraction = max_failed_group_fraction
        self._on_progress = on_progress
        self._gate = gate
        self._rank = rank

    async def __call__(self, sampling_client: SamplingClient) -> dict[str, float]:
        """Measure the weights of a sampling client. Cancelled, it cancels its rollouts."""
        policy = FrozenPolicy(
            sampling_client, max_tokens=self._max_tokens, gate=self._gate, rank=self._rank()
        )
        return await self.evaluate(policy)

    async def evaluate(self, actor: Actor) -> dict[str, float]:
        """Measure a policy, or a completer.

        Returns:
            `<name>/env/all/<metric>` and so on, and `<name>/rollout_errors/groups_skipped`.
        Raises:
            EnvError, CompleterError: if too many groups failed.
        """
        outcomes: list[GroupOutcome | None] = [None] * len(self._builders)
        free = anyio.Semaphore(self._max_concurrent_groups)
        num_done = 0

        async def roll_out(number: int, builder: EnvGroupBuilder) -> None:
            nonlocal num_done
            key = EpisodeKey(run_seed=self._seed, purpose=self.name, group=number)
            outcomes[number] = await do_group_rollout(builder, actor, key, self._limits)
            free.release()
            num_done += 1
            if self._on_progress is not None:
                self._on_progress(num_done, len(self._builders))

        async with anyio.create_task_group() as rollouts:
            for number, builder in enumerate(self._builders):
                await free.acquire()
                rollouts.start_soon(roll_out, number, builder)
        return self._metrics(outcomes)

    def _metrics(self, outcomes: list[GroupOutcome | None]) -> dict[str, float]:
        budget = ErrorBudget(self._max_failed_group_fraction, f"evaluation {self.name!r}")
        for outcome in outcomes:
            budget.count(outcome if isinstance(outcome, DroppedGroup) else None)
        budget.check()
        groups = [outcome for outcome in outcomes if isinstance(outcome, RolledOutGroup)]
        metrics = compute_trajectory_metrics([g.group for g in groups], [g.tags for g in groups])
        metrics["rollout_errors/groups_skipped"] = budget.num_failed
        return {f"{self.name}/{key}": value for key, value in metrics.items()}
