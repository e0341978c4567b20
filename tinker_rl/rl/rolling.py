"""Rolling out the groups of a run: each is in the journal before anything is learned from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tinker_rl.envs import TrajectoryGroup
from tinker_rl.errors import CompleterError, RequestError, SamplerError
from tinker_rl.policies import EpisodeKey, LivePolicy
from tinker_rl.rl.config import Config
from tinker_rl.rl.data import trajectory_to_data
from tinker_rl.rl.failure_counts import FailureCounts, describe_failure
from tinker_rl.rl.journal import FailureRecord, GroupRecord, ReferenceLogprobs
from tinker_rl.rl.kl_penalty import reference_logprobs
from tinker_rl.rl.outcomes import DroppedGroup, Failure, GroupOutcome, InfraFailure, RolledOutGroup
from tinker_rl.rl.problems import NumberedGroups
from tinker_rl.rl.progress import RunProgress
from tinker_rl.rl.rollouts import do_group_rollout
from tinker_rl.rl.stopwatch import Stopwatch
from tinker_rl.rl.tally import Call, Tally
from tinker_rl.rl.timeline import Timeline
from tinker_rl.rl.window import Ticket

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["Rolling"]

MOST_SAID = 5
"""Groups dropped for the same reason that are told of one by one."""


class Rolling:
    """Turns tickets into finished groups.

    Args:
        config: Options.
        policy: Who acts.
        groups: What is rolled out.
        reference: Scores the KL reference; None where there is no penalty.
        append: Writes into the journal.
        watch: Is told when a group is finished.
        timeline: Is told what it waited for.
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
        timeline: Timeline,
        progress: RunProgress,
    ) -> None:
        self._config = config
        self._policy = policy
        self._groups = groups
        self._reference = reference
        self._append = append
        self._watch = watch
        self._timeline = timeline
        self._progress = progress
        self._failures = FailureCounts()

    async def roll_out(self, ticket: Ticket) -> GroupRecord:
        """Roll out a group and write it down. Cancelled, it is to be sampled again.

        Of a dropped group only the failure is written here: a later start may try it again, until
        its batch trains.
        """
        began, tally = self._timeline.now(), Tally()
        self._progress.group_started(ticket.group)
        outcome = await self._outcome(ticket, tally)
        scores = None
        if self._reference is not None and isinstance(outcome, RolledOutGroup):
            try:
                scores = await _scores(self._reference, outcome.group)
            except* (CompleterError, RequestError, SamplerError) as errors:
                outcome = _not_scored(outcome, errors)
        if isinstance(outcome, DroppedGroup):
            self._say_dropped(ticket.group, outcome.failure)
        record = GroupRecord(
            group=ticket.group,
            policy_version=ticket.policy_version,
            outcome=outcome,
            reference_logprobs=scores,
        )
        await self._append(_failure(record) or record)
        self._watch.group_finished(ticket.group)
        self._tell(record, began, tally)
        is_dropped = isinstance(outcome, DroppedGroup)
        self._progress.group_finished(ticket.group, is_dropped=is_dropped)
        return record

    def _say_dropped(self, group: int, failure: Failure) -> None:
        """Of failures of a kind at one place, the first few only; all are in the journal."""
        number = self._failures.add(failure)
        if number > MOST_SAID:
            return
        more = (
            "; more of the same are counted, not said: python -m tinker_rl journal RUN --failed"
            if number == MOST_SAID
            else ""
        )
        self._progress.say(f"group {group} is dropped: {describe_failure(failure)}{more}")

    def _tell(self, record: GroupRecord, began: float, tally: Tally) -> None:
        outcome = record.outcome
        facts: dict[str, Any] = {"outcome": "none"}
        if outcome is not None:
            is_whole = isinstance(outcome, RolledOutGroup)
            facts = {
                "outcome": "rolled_out" if is_whole else "dropped",
                "members": len(outcome.group.trajectories_G) if is_whole else 0,
                "tokens": outcome.num_sampled_tokens,
                "env_seconds": outcome.times.env_seconds,
                "sample_seconds": outcome.times.sample_seconds,
                "turns": [_rounded(call) for call in tally.calls],
            }
        name, version = f"group {record.group}", record.policy_version
        self._timeline.span("rollout", name, began, group=record.group, version=version, **facts)

    async def _outcome(self, ticket: Ticket, tally: Tally) -> GroupOutcome | None:
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
            tally=tally,
        )


def _rounded(call: Call) -> Call:
    """To microseconds: shorter to write, and more than anybody sees."""
    member, whom, began, seconds = call
    return member, whom, round(began, 6), round(seconds, 6)


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
        tags=outcome.tags,
        cleanup_error=outcome.cleanup_error,
        failures=outcome.failures,
        trajectories=tuple(outcome.group.trajectories_G),
        members=outcome.members,
        times=outcome.times,
    )
