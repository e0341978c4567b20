"""How an episode ended, and a group: closed sets, so that nothing broken passes for a reward."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tinker_rl.envs import StopReason, Trajectory, TrajectoryGroup

__all__ = [
    "Completed",
    "DroppedGroup",
    "EnvFailure",
    "Failure",
    "GroupOutcome",
    "InfraFailure",
    "Outcome",
    "RolledOutGroup",
    "Truncated",
]


class Completed(msgspec.Struct, frozen=True, tag="completed"):
    """The task ended."""

    trajectory: Trajectory


class Truncated(msgspec.Struct, frozen=True, tag="truncated"):
    """A limit cut the episode short; what the policy did until then trains."""

    limit: StopReason
    trajectory: Trajectory


class EnvFailure(msgspec.Struct, frozen=True, tag="env_failure"):
    """The environment broke: no fault of the policy, and no reward."""

    where: str
    """What was called: `make_envs`, `initial_observation`, `step`, `compute_group_rewards`."""
    error_type: str
    """Class of the error."""
    error: str
    """What it said."""


class InfraFailure(msgspec.Struct, frozen=True, tag="infra_failure"):
    """Sampling the action broke: no fault of the policy nor of the environment, and no reward."""

    where: str
    error_type: str
    error: str


Outcome: TypeAlias = Completed | Truncated | EnvFailure | InfraFailure
"""How an episode ended."""

Failure: TypeAlias = EnvFailure | InfraFailure
"""An outcome that carries nothing to train on."""


class RolledOutGroup(msgspec.Struct, frozen=True, kw_only=True, tag="rolled_out"):
    """All episodes of a group, none of them failed."""

    group: TrajectoryGroup
    tags: tuple[str, ...]
    """Names under which its metrics are averaged."""
    num_sampled_tokens: int
    cleanup_error: str | None = None
    """What the builder's clean-up raised, if it did; the episodes are none the worse for it."""


class DroppedGroup(msgspec.Struct, frozen=True, kw_only=True, tag="dropped"):
    """A group with a failed episode: an empty record of its batch."""

    failure: Failure
    member: int | None
    """Place of the failed episode; None when the group itself failed."""
    num_sampled_tokens: int
    """Tokens sampled for it, which train nothing."""
    cleanup_error: str | None = None


GroupOutcome: TypeAlias = RolledOutGroup | DroppedGroup
