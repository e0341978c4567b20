"""Calls of a group's builder: bounded in time, and what goes wrong is a failure of the group."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import msgspec

from tinker_rl.envs import Env, EnvGroupBuilder, Trajectory, TrajectoryGroup
from tinker_rl.envs.answers import answer_of
from tinker_rl.envs.containment import (
    CancelledInsideError,
    LeakedTaskError,
    OutOfTimeError,
    contained,
)
from tinker_rl.envs.randomness import seeded_rng
from tinker_rl.policies import EpisodeKey
from tinker_rl.rl.env_answers import checked_envs, checked_pairs, checked_tags
from tinker_rl.rl.failures import env_failure, env_report, too_slow, without_exceptions
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.tally import Tally

__all__ = ["GROUP_ITSELF", "GROUP_REWARDS", "BuilderCalls"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

GROUP_ITSELF = -1
"""`EpisodeKey.member` of what belongs to no episode but to the group."""

GROUP_REWARDS = -2
"""`EpisodeKey.member` of `compute_group_rewards`."""


class BuilderCalls:
    """The builder of one group, asked carefully.

    Args:
        builder: Makes the environments.
        key: Of the group. What the builder draws from `current_rng()` depends on it and on the
            attempt, with `GROUP_ITSELF` or `GROUP_REWARDS` as the member.
        limits: How long each call may take.
        tally: Notes how long they took.
    """

    def __init__(
        self, builder: EnvGroupBuilder, key: EpisodeKey, limits: RolloutLimits, tally: Tally
    ) -> None:
        self.builder = builder
        self._key = key
        self._limits = limits
        self._tally = tally

    async def make_envs(self, attempt: int) -> list[Env]:
        """The environments, at least one. Raises EpisodeFailed."""

        async def made() -> list[Env]:
            return checked_envs(await answer_of(self.builder, "make_envs"))

        with seeded_rng(self._with(GROUP_ITSELF, attempt).env_rng()):
            return await self._call("make_envs", made)

    async def compute_group_rewards(
        self, attempt: int, trajectories: list[Trajectory], envs: Sequence[Env]
    ) -> TrajectoryGroup:
        """The episodes with what each earned in comparison. Raises EpisodeFailed."""

        async def rewarded() -> TrajectoryGroup:
            args = list(trajectories), list(envs)
            answer = await answer_of(self.builder, "compute_group_rewards", *args)
            pairs = checked_pairs(answer, len(trajectories))
            return TrajectoryGroup(
                trajectories_G=trajectories,
                final_rewards_G=[reward for reward, _ in pairs],
                metrics_G=[metrics for _, metrics in pairs],
            )

        with seeded_rng(self._with(GROUP_REWARDS, attempt).env_rng()):
            return await self._call("compute_group_rewards", rewarded)

    async def logging_tags(self) -> tuple[str, ...]:
        """Names under which the metrics are averaged. Raises EpisodeFailed."""

        async def tags() -> tuple[str, ...]:
            return checked_tags(self.builder.logging_tags())

        return await self._call("logging_tags", tags)

    async def cleanup(self) -> str | None:
        """Clean up, cancelled or not; what goes wrong is said and logged, never raised."""
        seconds = self._limits.cleanup_seconds
        error = f"TimeoutError: clean-up took longer than {seconds} seconds"
        with (
            seeded_rng(self._with(GROUP_ITSELF, 0).env_rng()),
            anyio.move_on_after(seconds, shield=True),
        ):
            try:
                await contained(lambda _: self._cleaned_up())
                return None
            except (Exception, SystemExit) as raised:
                report = env_report("cleanup", raised, getattr(self.builder, "cleanup", None))
                error = f"{report.error_type}: {report.text}"
        logger.warning("The clean-up of a group failed: %s", error)
        return error

    async def _cleaned_up(self) -> None:
        try:
            await answer_of(self.builder, "cleanup")
        except Exception:
            raise
        except BaseExceptionGroup as group:
            raise without_exceptions(group) from None

    def _with(self, member: int, attempt: int) -> EpisodeKey:
        attempt += self._key.attempt
        return msgspec.structs.replace(self._key, member=member, attempt=attempt)

    async def _call(self, where: str, function: Callable[[], Awaitable[T]]) -> T:
        """What the builder's method gives. Raises EpisodeFailed when it fails, or is too slow."""
        began = anyio.current_time()
        name, seconds = self._bound()
        method = getattr(self.builder, where, None)

        async def bounded(scope: anyio.CancelScope) -> T:
            if seconds is not None:
                scope.deadline = began + seconds
            try:
                return await function()
            except (Exception, SystemExit) as error:
                raise env_failure(where, error, method) from error
            except BaseExceptionGroup as group:
                raise without_exceptions(group) from None

        try:
            return await contained(bounded)
        except OutOfTimeError:
            raise too_slow(where, seconds, name, method) from None
        except (LeakedTaskError, CancelledInsideError) as error:
            raise env_failure(where, error, method) from error
        finally:
            self._tally.waited_for_builder(anyio.current_time() - began)

    def _bound(self) -> tuple[str, float | None]:
        """The tighter of the two limits of a call, and its name."""
        names = ("max_step_seconds", "max_seconds")
        bounds = {name: getattr(self._limits, name) for name in names}
        given = {name: value for name, value in bounds.items() if value is not None}
        name = min(given, key=lambda name: given[name], default=names[0])
        return name, given.get(name)
