"""How an episode ended, and a group: closed sets, so that nothing broken passes for a reward."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Observation, StopReason, Trajectory, TrajectoryGroup, Transition

__all__ = [
    "Completed",
    "DroppedGroup",
    "EnvFailure",
    "Failure",
    "GroupOutcome",
    "InfraFailure",
    "MemberFailure",
    "Outcome",
    "RolledOutGroup",
    "RolloutTimes",
    "Truncated",
    "UnfinishedEpisode",
]


class Completed(msgspec.Struct, frozen=True, tag="completed"):
    """The task ended."""

    trajectory: Trajectory


class Truncated(msgspec.Struct, frozen=True, tag="truncated"):
    """A limit cut the episode short; what the policy did until then trains."""

    limit: StopReason
    trajectory: Trajectory


class UnfinishedEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """How far an episode had come when it broke: for people to read, it never trains."""

    transitions: tuple[Transition, ...]
    """The turns that the environment answered."""
    observation: Observation
    """What the policy saw last."""
    action: TokensWithLogprobs | None = None
    """What it did then, and the environment did not answer; None where it had not acted yet."""

    @property
    def num_turns(self) -> int:
        """Actions, answered or not."""
        return len(self.transitions) + (self.action is not None)


class EnvFailure(msgspec.Struct, frozen=True, tag="env_failure"):
    """The environment broke: no fault of the policy, and no reward."""

    where: str
    """What was called: `make_envs`, `initial_observation`, `step`, `compute_group_rewards`."""
    error_type: str
    """Class of the error."""
    error: str
    """What it said."""
    location: str = ""
    """`file:line` of the user's code that raised it; empty where none did."""
    unfinished: UnfinishedEpisode | None = None
    """The episode until then; None where it had not begun, or the builder broke."""


class InfraFailure(msgspec.Struct, frozen=True, tag="infra_failure"):
    """Sampling the action broke: no fault of the policy nor of the environment, and no reward."""

    where: str
    error_type: str
    error: str
    unfinished: UnfinishedEpisode | None = None
    """The episode until then; None where it had not begun."""


Outcome: TypeAlias = Completed | Truncated | EnvFailure | InfraFailure
"""How an episode ended."""

Failure: TypeAlias = EnvFailure | InfraFailure
"""An outcome that carries nothing to train on."""


class MemberFailure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed attempt at an episode, or at what concerns the whole group."""

    member: int | None
    """Place of the episode in its group; None when the group itself failed."""
    attempt: int
    """0 the first time."""
    failure: Failure


class RolloutTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of a group went, in seconds.

    Nothing else in an outcome depends on the clock: two runs of the same seed agree on the rest.
    """

    seconds: float = 0.0
    """Wall-clock time from the start of the group to the end of its clean-up."""
    env_seconds: float = 0.0
    """Spent by the episodes in waiting for their environments, added up."""
    sample_seconds: float = 0.0
    """Spent by the episodes in waiting for the sampler, added up."""
    longest_env_seconds: float = 0.0
    """The longest single call, of an environment or of the builder."""


class RolledOutGroup(msgspec.Struct, frozen=True, kw_only=True, tag="rolled_out"):
    """The episodes of a group that did not fail: all, unless the group policy leaves some out."""

    group: TrajectoryGroup
    tags: tuple[str, ...]
    """Names under which its metrics are averaged."""
    num_sampled_tokens: int
    """Tokens sampled for it, those of failed attempts included."""
    cleanup_error: str | None = None
    """What the builder's clean-up raised, if it did; the episodes are none the worse for it."""
    members: tuple[int, ...] | None = None
    """Place in the group, as it was made, of each trajectory; None: all of them, in order."""
    failures: tuple[MemberFailure, ...] = ()
    """Attempts that failed, by member and attempt: played again, or left out."""
    times: RolloutTimes = RolloutTimes()


class DroppedGroup(msgspec.Struct, frozen=True, kw_only=True, tag="dropped"):
    """A group with a failed episode, or one that failed itself: nothing for its batch to train on.

    Where an episode failed, the others are cancelled at once, so the tokens that they had sampled
    depend on the timing.
    """

    failure: Failure
    """The one that nothing could be done about."""
    member: int | None
    """Place of the failed episode; None when the group itself failed."""
    num_sampled_tokens: int
    """Tokens sampled for it, which train nothing."""
    tags: tuple[str, ...] = ()
    """Names under which its metrics would be averaged."""
    cleanup_error: str | None = None
    failures: tuple[MemberFailure, ...] = ()
    """All attempts that failed, by member and attempt."""
    trajectories: tuple[Trajectory, ...] = ()
    """Where the group itself failed, the episodes that had ended: to read, they never train."""
    members: tuple[int, ...] | None = None
    """Place in the group, as it was made, of each trajectory; None: all of them, in order."""
    times: RolloutTimes = RolloutTimes()


GroupOutcome: TypeAlias = RolledOutGroup | DroppedGroup
