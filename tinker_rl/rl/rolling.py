"""Rolling out the groups of a run: each is in the journal before anything is learned from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tinker_rl.envs import TrajectoryGroup
from tinker_rl.errors import CompleterError, RequestError, SamplerError
from tinker_rl.policies import EpisodeKey, LivePolicy
from tinker_rl.rl.config import Config
from tinker_rl.rl.data import trajectory_to_data
from tinker_rl.rl.error_budget import describe_failure
from tinker_rl.rl.journal import FailureRecord, GroupRecord, ReferenceLogprobs
from tinker_rl.rl.kl_penalty import reference_logprobs
from tinker_rl.rl.outcomes import DroppedGroup, GroupOutcome, InfraFailure, RolledOutGroup
from tinker_rl.rl.problems import NumberedGroups
from tinker_rl.rl.progress import RunProgress
from tinker_rl.rl.rollouts import do_group_rollout
from tinker_rl.rl.stopwatch import Stopwatch
from tinker_rl.rl.window import Ticket

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["Rolling"]


class Rolling:
    """Turns tickets into finished groups.

    Args:
        config: Options.
        policy: Who acts.
        groups: What is rolled out.
        reference: Scores the KL reference; None where there is no penalty.
        append: Writes into the journal.
        watch: Is told when a group is finished.
        progress: Where to show what happens.
    """

    def __init__(
        self,
        config: Config,
        policy: LivePolicy,
        groups: NumberedGroups,
        reference: SamplingClient | None,
        append: Callable[[GroupRecord | FailureRecord], Awaitable[None]],
        watch: Stopwatch,
        progress: RunProgress,
    ) -> None:
        self._config = config
        self._policy = policy
        self._groups = groups
        self._reference = reference
        self._append = append
        self._watch = watch
        self._progress = progress
        self._num_done = 0

    async def roll_out(self, ticket: Ticket) -> GroupRecord:
        """Roll out a group and write it down. Cancelled, it is to be sampled again.

        Of a dropped group only the failure is written here: a later start may try it again, until
        its batch trains.
        """
        outcome = await self._outcome(ticket)
        scores = None
        if self._reference is not None and isinstance(outcome, RolledOutGroup):
            try:
                scores = await _scores(self._reference, outcome.group)
            except* (CompleterError, RequestError, SamplerError) as errors:
                outcome = _not_scored(outcome, errors)
        if isinstance(outcome, DroppedGroup):
            self._progress.say(
                f"group {ticket.group} is dropped: {describe_failure(outcome.failure)}"
            )
        record = GroupRecord(
            group=ticket.group,
            policy_version=ticket.policy_version,
            outcome=outcome,
            reference_logprobs=scores,
        )
        await self._append(_failure(record) or record)
        self._watch.group_finished(ticket.group)
        self._num_done += 1
        size = self._groups.groups_per_batch
        self._progress.working("rollouts", (self._num_done - 1) % size + 1, size)
        return record

    async def _outcome(self, ticket: Ticket) -> GroupOutcome | None:
        builder = self._groups.builder(ticket.group)
        if builder is None:
            return None
        is_fixed = self._config.schedule.lag == "fixed"
        return await do_group_rollout(
            builder,
            self._policy.at(ticket.policy_version) if is_fixed else self._policy,
            EpisodeKey(run_seed=self._config.seed, group=ticket.group),
            self._config.limits,
            self._config.group_policy,
        )


def _failure(record: GroupRecord) -> FailureRecord | None:
    """What to write down of a group that was dropped; None if it was not."""
    if not isinstance(record.outcome, DroppedGroup):
        return None
    return FailureRecord(
        group=record.group, policy_version=record.policy_version, outcome=record.outcome
    )


async def _scores(reference: SamplingClient, group: TrajectoryGroup) -> ReferenceLogprobs:
    """The reference's logprobs of every training sequence of a group."""
    members = [trajectory_to_data(trajectory, 0.0) for trajectory in group.trajectories_G]
    flat = await reference_logprobs(reference, [s for member in members for s in member])
    scores = iter(flat)
    return tuple(tuple(next(scores) for _ in member) for member in members)


def _not_scored(outcome: RolledOutGroup, errors: ExceptionGroup[Exception]) -> DroppedGroup:
    error = errors.exceptions[0]  # of many sequences the same, as a rule
    return DroppedGroup(
        failure=InfraFailure("kl_reference", type(error).__name__, str(error)),
        member=None,
        num_sampled_tokens=outcome.num_sampled_tokens,
        cleanup_error=outcome.cleanup_error,
    )
