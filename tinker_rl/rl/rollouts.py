"""Rolling out a group of episodes, which are rewarded together or dropped together."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import msgspec

from tinker_rl.completers import StopCondition, TokenCompleter, TokensWithLogprobs
from tinker_rl.envs import Env, EnvGroupBuilder, Trajectory, TrajectoryGroup
from tinker_rl.envs.randomness import seeded_rng
from tinker_rl.policies import Actor, EpisodeKey, completer_for
from tinker_rl.rl.episode import NO_LIMITS, EpisodeFailed, do_single_rollout, failure_of
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.outcomes import (
    DroppedGroup,
    EnvFailure,
    GroupOutcome,
    InfraFailure,
    Outcome,
    RolledOutGroup,
)
from tinker_rl.types import ModelInput

__all__ = ["do_group_rollout"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

GROUP_ITSELF = -1
"""`EpisodeKey.member` of what belongs to no episode but to the group."""


async def do_group_rollout(
    builder: EnvGroupBuilder,
    actor: Actor,
    key: EpisodeKey,
    limits: RolloutLimits = NO_LIMITS,
) -> GroupOutcome:
    """Roll out the episodes of a group at the same time, and reward them together.

    The builder's `cleanup` is called exactly once, on success, failure and cancellation alike, and
    may take `limits.cleanup_seconds`. When an episode fails, the others are cancelled and the
    group is dropped.

    Args:
        builder: Makes the environments.
        actor: Who acts: a policy, or one completer for all.
        key: Of the group; each episode's is the same with its own `member`. What the builder's
            methods draw from `current_rng()` has `GROUP_ITSELF` there.
    Returns:
        The group, or why it was dropped.
    """
    with seeded_rng(msgspec.structs.replace(key, member=GROUP_ITSELF).env_rng()):
        try:
            outcome = await _roll_out(builder, actor, key, limits)
        finally:
            cleanup_error = await _clean_up(builder, limits.cleanup_seconds)
    return msgspec.structs.replace(outcome, cleanup_error=cleanup_error)


async def _roll_out(
    builder: EnvGroupBuilder, actor: Actor, key: EpisodeKey, limits: RolloutLimits
) -> GroupOutcome:
    members = _Members(actor, key, limits)
    try:
        envs = await _from_env("make_envs", limits, lambda: _made(builder))
        trajectories = await members.play(envs)
        group = await _from_env(
            "compute_group_rewards", limits, lambda: _rewarded(builder, trajectories, envs)
        )
        tags = await _from_env("logging_tags", limits, lambda: _tags(builder))
    except EpisodeFailed as failed:
        return DroppedGroup(
            failure=failed.failure,
            member=members.failed,
            num_sampled_tokens=members.num_sampled_tokens,
        )
    return RolledOutGroup(group=group, tags=tags, num_sampled_tokens=members.num_sampled_tokens)


class _Members:
    """The episodes of one group, and the tokens sampled for them."""

    def __init__(self, actor: Actor, key: EpisodeKey, limits: RolloutLimits) -> None:
        self._actor = actor
        self._key = key
        self._limits = limits
        self.num_sampled_tokens = 0
        self.failed: int | None = None
        """Place of the episode that failed first."""

    async def play(self, envs: list[Env]) -> list[Trajectory]:
        """All trajectories, in the order of `envs`. Raises EpisodeFailed at the first failure."""
        outcomes: list[Outcome | None] = [None] * len(envs)
        async with anyio.create_task_group() as episodes:

            async def play_one(member: int) -> None:
                outcomes[member] = outcome = await self._play_one(member, envs[member])
                if isinstance(outcome, EnvFailure | InfraFailure) and self.failed is None:
                    self.failed = member
                    episodes.cancel_scope.cancel()

            for member in range(len(envs)):
                episodes.start_soon(play_one, member)
        if self.failed is not None:
            outcomes = [outcomes[self.failed]]
        return [_trajectory(outcome) for outcome in outcomes]

    async def _play_one(self, member: int, env: Env) -> Outcome:
        key = msgspec.structs.replace(self._key, member=member)
        completer = _Counted(completer_for(self._actor, key), self)
        with seeded_rng(key.env_rng()):
            return await do_single_rollout(completer, env, self._limits)


def _trajectory(outcome: Outcome | None) -> Trajectory:
    """What trains of an episode. Raises EpisodeFailed when nothing does."""
    if outcome is None:  # on asyncio, what an environment awaits may raise a cancellation itself
        outcome = EnvFailure("step", "CancelledError", "the episode was cancelled from inside")
    if isinstance(outcome, EnvFailure | InfraFailure):
        raise EpisodeFailed(outcome)
    return outcome.trajectory


class _Counted(TokenCompleter):
    """A completer whose sampled tokens are counted, also when their episode is dropped."""

    def __init__(self, completer: TokenCompleter, members: _Members) -> None:
        self._completer = completer
        self._members = members

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        action = await self._completer(model_input, stop, max_tokens=max_tokens)
        self._members.num_sampled_tokens += len(action.tokens)
        return action


async def _from_env(where: str, limits: RolloutLimits, function: Callable[[], Awaitable[T]]) -> T:
    """What the builder's method gives. Raises EpisodeFailed when it raises, or takes too long."""
    seconds = limits.max_seconds
    try:
        with anyio.move_on_after(seconds):
            return await function()
    except Exception as error:
        raise failure_of(EnvFailure, where, error) from error
    error = f"no answer within {seconds} seconds (RolloutLimits.max_seconds)"
    raise EpisodeFailed(EnvFailure(where, "TimeoutError", error))


async def _made(builder: EnvGroupBuilder) -> list[Env]:
    envs = list(await builder.make_envs())
    if not envs:
        raise ValueError("expected at least one environment; got none")
    return envs


async def _rewarded(
    builder: EnvGroupBuilder, trajectories: list[Trajectory], envs: list[Env]
) -> TrajectoryGroup:
    rewards_and_metrics = await builder.compute_group_rewards(trajectories, envs)
    return TrajectoryGroup(
        trajectories_G=trajectories,
        final_rewards_G=[reward for reward, _ in rewards_and_metrics],
        metrics_G=[metrics for _, metrics in rewards_and_metrics],
    )


async def _tags(builder: EnvGroupBuilder) -> tuple[str, ...]:
    return tuple(builder.logging_tags())


async def _clean_up(builder: EnvGroupBuilder, seconds: float) -> str | None:
    """Clean up, cancelled or not; what goes wrong is said and logged, never raised."""
    error = f"TimeoutError: clean-up took longer than {seconds} seconds"
    with anyio.move_on_after(seconds, shield=True):
        try:
            await builder.cleanup()
            return None
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    logger.warning("The clean-up of a group failed: %s", error)
    return error
