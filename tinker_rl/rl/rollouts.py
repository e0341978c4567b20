"""Rolling out a group of episodes, which are rewarded together or dropped together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from tinker_rl.envs import Env, EnvGroupBuilder
from tinker_rl.envs.randomness import seeded_rng
from tinker_rl.errors import ShapeError
from tinker_rl.policies import Actor, EpisodeKey, completer_for, playing
from tinker_rl.rl.builder_calls import GROUP_ITSELF, GROUP_REWARDS, BuilderCalls
from tinker_rl.rl.episode import NO_LIMITS, do_single_rollout
from tinker_rl.rl.failures import FOR_LINKED, EpisodeFailed, env_failure
from tinker_rl.rl.group_policies import FailFast, GroupPolicy
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.members import Members
from tinker_rl.rl.outcomes import (
    DroppedGroup,
    EnvFailure,
    Failure,
    GroupOutcome,
    Outcome,
    RolledOutGroup,
)
from tinker_rl.rl.tally import Tally

__all__ = ["GROUP_ITSELF", "GROUP_REWARDS", "do_group_rollout"]

T = TypeVar("T")

FAIL_FAST = FailFast()


async def do_group_rollout(
    builder: EnvGroupBuilder,
    actor: Actor,
    key: EpisodeKey,
    limits: RolloutLimits = NO_LIMITS,
    group_policy: GroupPolicy = FAIL_FAST,
    *,
    tally: Tally | None = None,
) -> GroupOutcome:
    """Roll out the episodes of a group at the same time, and reward them together.

    The builder's `cleanup` is called exactly once, on success, failure and cancellation alike, and
    may take `limits.cleanup_seconds`. Cancelled, the episodes are lost.

    Args:
        builder: Makes the environments.
        actor: Who acts: a policy, or one completer for all.
        key: Of the group; each episode's is the same with its own `member`, and `attempt` one
            higher for every time that it is played again. What the builder's methods draw from
            `current_rng()` has `GROUP_ITSELF` or `GROUP_REWARDS` there.
        limits: Of each episode and each call.
        group_policy: What becomes of the group when an episode fails.
        tally: Counts what the group costs, for whoever looks at more than the outcome tells.
    Returns:
        The group, or why it was dropped.
    """
    tally = tally or Tally()
    calls = BuilderCalls(builder, key, limits, tally)
    is_linked = bool(getattr(builder, "linked", False))
    rollout = _GroupRollout(calls, actor, key, limits, group_policy, is_linked, tally)
    with playing(msgspec.structs.replace(key, member=GROUP_ITSELF), _version_of(actor)):
        try:
            outcome = await rollout.play()
        finally:
            cleanup_error = await calls.cleanup()
    return msgspec.structs.replace(outcome, cleanup_error=cleanup_error, times=tally.times())


class _GroupRollout:
    """A group under way.

    Tried again is either the whole group, if its episodes are linked, or what failed of it.
    """

    def __init__(
        self,
        calls: BuilderCalls,
        actor: Actor,
        key: EpisodeKey,
        limits: RolloutLimits,
        policy: GroupPolicy,
        is_linked: bool,
        tally: Tally,
    ) -> None:
        self._calls = calls
        self._actor = actor
        self._key = key
        self._limits = limits
        self._is_linked = is_linked
        self._policy = policy.for_linked() if is_linked else policy
        self._group_retries = self._policy.num_retries if is_linked else 0
        self._part_retries = 0 if is_linked else self._policy.num_retries
        self._tally = tally

    async def play(self) -> GroupOutcome:
        """Roll out, again and again while that may help."""
        for attempt in range(self._group_retries):
            outcome = await self._roll_out(attempt)
            if isinstance(outcome, RolledOutGroup):
                return outcome
        return await self._roll_out(self._group_retries)

    async def _roll_out(self, attempt: int) -> GroupOutcome:
        member: int | None = None
        members: Members | None = None
        try:
            envs, made_at = await self._repeat(attempt, self._calls.make_envs)
            members = self._members(envs, made_at)
            await members.play(attempt)
            if members.fatal is not None:
                member, failure = members.fatal
                raise EpisodeFailed(failure)
            group, _ = await self._repeat(
                attempt,
                lambda attempt: self._calls.compute_group_rewards(
                    attempt, members.trajectories, members.envs
                ),
            )
            tags, _ = await self._repeat(attempt, lambda _: self._calls.logging_tags())
        except EpisodeFailed as failed:
            played = members if member is None else None  # else the others were cut short
            return DroppedGroup(
                failure=failed.failure,
                member=member,
                num_sampled_tokens=self._tally.num_sampled_tokens,
                tags=await self._tags_of_dropped(failed.failure),
                failures=self._tally.failures,
                trajectories=tuple(played.trajectories) if played else (),
                members=played.places if played else None,
            )
        return RolledOutGroup(
            group=group,
            tags=tags,
            num_sampled_tokens=self._tally.num_sampled_tokens,
            members=members.places,
            failures=self._tally.failures,
        )

    async def _tags_of_dropped(self, failure: Failure) -> tuple[str, ...]:
        if failure.where == "logging_tags":
            return ()
        try:
            return await self._calls.logging_tags()
        except EpisodeFailed:
            return ()

    async def _repeat(self, attempt: int, call: Callable[[int], Awaitable[T]]) -> tuple[T, int]:
        """What a method of the builder gives, and at which attempt. Raises EpisodeFailed."""
        for retry in range(attempt, attempt + self._part_retries + 1):
            try:
                return await call(retry), retry
            except EpisodeFailed as failed:
                self._tally.failed(None, retry, failed.failure)
                if retry == attempt + self._part_retries:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _members(self, envs: list[Env], made_at: int) -> Members:
        size = len(envs)

        async def make_again(member: int) -> Env:
            again = await self._calls.make_envs(made_at)
            if len(again) == size:
                return again[member]
            wrong = ShapeError(f"expected {size} environments, as at first; got {len(again)}")
            raise env_failure("make_envs", wrong, self._calls.builder.make_envs)

        return Members(
            envs, self._play_one, make_again, self._policy, self._part_retries, self._tally
        )

    async def _play_one(self, member: int, attempt: int, env: Env) -> Outcome:
        attempt += self._key.attempt
        key = msgspec.structs.replace(self._key, member=member, attempt=attempt)
        with seeded_rng(key.env_rng()), playing(key, _version_of(self._actor)):
            completer = completer_for(self._actor, key)
            tally = self._tally.of(member)
            outcome = await do_single_rollout(completer, env, self._limits, tally=tally)
        if self._is_linked and isinstance(outcome, EnvFailure):
            is_late = outcome.error_type == "TimeoutError"
            hint = f" {FOR_LINKED}" if is_late else ""
            return msgspec.structs.replace(outcome, error=outcome.error + hint)
        return outcome


def _version_of(actor: Actor) -> int | None:
    return getattr(actor, "policy_version", None)
