"""Playing a scripted group, in the way of a run, and noting all that happens."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import anyio
import msgspec

from tinker_rl.envs import ActionExtra, Env, EnvGroupBuilder, StopReason, TrajectoryGroup
from tinker_rl.envs.answers import answer_of
from tinker_rl.envs.blocking import call_env
from tinker_rl.envs.containment import (
    CancelledInsideError,
    LeakedTaskError,
    OutOfTimeError,
    contained,
)
from tinker_rl.envs.message_env import hears_early_end, users_method
from tinker_rl.envs.randomness import seeded_rng
from tinker_rl.policies import EpisodeKey
from tinker_rl.policies.episodes import playing
from tinker_rl.rl.builder_calls import GROUP_ITSELF, GROUP_REWARDS
from tinker_rl.rl.env_answers import (
    checked_envs,
    checked_first_observation,
    checked_pairs,
    checked_step,
    checked_tags,
)
from tinker_rl.rl.failures import env_failure, without_exceptions
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.testing.checks.baton import Baton, Order
from tinker_rl.testing.checks.global_random import kept_global_rngs, seed_scheduler
from tinker_rl.testing.checks.records import Broken, PlayedEpisode, PlayedGroup, Turn
from tinker_rl.testing.checks.shared_state import SharedState
from tinker_rl.testing.checks.sleep_watch import SleepWatch
from tinker_rl.testing.checks.variant import FIRST, Variant
from tinker_rl.testing.completers.injected import is_injected
from tinker_rl.testing.strategies.scripts import GroupScript

__all__ = ["PlaySettings", "play_group"]


class PlaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How groups are played."""

    limits: RolloutLimits
    max_turns: int
    """Turns after which an episode is left, unfinished."""
    seconds: float
    """Longest a call may take."""


class _BrokenCall(Exception):
    """Carries what went wrong to the end of the episode, or of the group."""

    def __init__(self, broken: Broken) -> None:
        self.broken = broken


async def play_group(
    builder: EnvGroupBuilder,
    script: GroupScript,
    settings: PlaySettings,
    order: Order = "serial",
    variant: Variant = FIRST,
    *,
    watch: bool = False,
) -> PlayedGroup:
    """Play a group from `make_envs` to `cleanup`.

    Args:
        builder: Makes the environments; used once.
        script: What the policy does.
        settings: How far to go.
        order: Who acts when.
        variant: What is not as in the first play of the script.
        watch: Whether to look for what the members share.
    """
    with kept_global_rngs():
        seed_scheduler(script.seed)
        return await _GroupPlay(builder, script, settings, order, variant, watch).play()


class _GroupPlay:
    def __init__(
        self,
        builder: EnvGroupBuilder,
        script: GroupScript,
        settings: PlaySettings,
        order: Order,
        variant: Variant,
        watch: bool,
    ) -> None:
        self._settings = settings
        self._order: Order = order
        self._variant = variant
        self._watch = watch
        self._builder = builder
        self._script = script
        self._group = PlayedGroup(script, builder)

    async def play(self) -> PlayedGroup:
        try:
            await self._play()
        except _BrokenCall as call:
            self._group.broken.append(call.broken)
        try:
            await self._call("cleanup", lambda: answer_of(self._builder, "cleanup"), GROUP_ITSELF)
        except _BrokenCall as call:
            self._group.broken.append(call.broken)
        return self._group

    async def _play(self) -> None:
        made = await self._call("make_envs", self._made, GROUP_ITSELF)
        episodes = [
            PlayedEpisode(member, self._script.episode(member), env)
            for member, env in enumerate(made)
        ]
        self._group.episodes = episodes
        shared = SharedState([episode.env for episode in episodes]) if self._watch else None
        baton = Baton(self._order, len(episodes))
        async with anyio.create_task_group() as tasks:

            async def play(episode: PlayedEpisode) -> None:
                acted = self._group.acted
                await _EpisodePlay(episode, self._settings, baton, self._variant, acted).play()
                if self._order == "free" and episode.broken is not None:
                    tasks.cancel_scope.cancel()  # as a run does, where members are linked

            for episode in episodes:
                tasks.start_soon(play, episode)
        self._group.shared = shared
        if all(episode.broken is None and episode.turns for episode in episodes):
            await self._reward()
        for episode in episodes:
            if episode.end == "ended":
                await self._step_after_end(episode)

    async def _made(self) -> list[Env]:
        return checked_envs(await answer_of(self._builder, "make_envs"))

    async def _reward(self) -> None:
        shown = [e for e in self._group.episodes if e.member != self._variant.omitted]
        envs = [episode.env for episode in shown]

        async def rewarded() -> TrajectoryGroup:
            trajectories = [episode.trajectory() for episode in shown]
            args = list(trajectories), list(envs)
            answer = await answer_of(self._builder, "compute_group_rewards", *args)
            pairs = checked_pairs(answer, len(trajectories))
            rewards, metrics = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            return TrajectoryGroup(trajectories, rewards, metrics)

        async def tags() -> tuple[str, ...]:
            return checked_tags(self._builder.logging_tags())

        for where, function in (("compute_group_rewards", rewarded), ("logging_tags", tags)):
            try:
                answer: Any = await self._call(where, function, GROUP_REWARDS)
            except _BrokenCall as call:
                self._group.broken.append(call.broken)
                continue
            if isinstance(answer, TrajectoryGroup):
                self._group.rewarded = answer
            else:
                self._group.tags = answer

    async def _step_after_end(self, episode: PlayedEpisode) -> None:
        """Call `step` once more; what it should do is raise."""
        action = episode.turns[-1].action
        options = _step_options(episode.env, action.stop_reason)

        async def step(scope: anyio.CancelScope) -> Any:
            scope.deadline = anyio.current_time() + self._settings.seconds
            return await call_env(episode.env, "step", list(action.tokens), **options)

        key = episode.script.key(episode.member)
        with seeded_rng(key.env_rng()), playing(key, 0):
            try:
                answer = await contained(step)
                episode.after_end = "nothing" if answer is None else answer
            except (Exception, SystemExit) as error:
                method = users_method(episode.env, "step")
                failure = env_failure("step", error, method).failure
                episode.after_end = Broken("step", "raised", failure)  # pyright: ignore[reportArgumentType]

    async def _call(self, where: str, function: Callable[[], Awaitable[Any]], member: int) -> Any:
        """What a method of the builder gives. Raises _BrokenCall."""
        method = getattr(self._builder, where, None)
        key = EpisodeKey(run_seed=self._script.seed, purpose="check_env", group=0, member=member)
        with seeded_rng(key.env_rng()), playing(key, 0):
            self._variant.seed_global_rngs(self._script.seed, where, member, 0)
            return await _bounded(where, function, method, self._settings.seconds)


async def _bounded(
    where: str, function: Callable[[], Awaitable[Any]], method: Any, seconds: float
) -> Any:
    async def call(scope: anyio.CancelScope) -> Any:
        scope.deadline = anyio.current_time() + seconds
        try:
            return await function()
        except (Exception, SystemExit) as error:
            raise _broken(where, "raised", error, method) from error
        except BaseExceptionGroup as group:
            raise without_exceptions(group) from None

    try:
        return await contained(call)
    except OutOfTimeError:
        raise _broken(where, "late", _late(seconds), method) from None
    except LeakedTaskError as error:
        raise _broken(where, "open", error, method) from error
    except CancelledInsideError as error:
        raise _broken(where, "raised", error, method) from error


class _EpisodePlay:
    """One member's episode, in a task of its own as in a run."""

    def __init__(
        self,
        episode: PlayedEpisode,
        settings: PlaySettings,
        baton: Baton,
        variant: Variant,
        acted: list[int],
    ) -> None:
        self._episode = episode
        self._settings = settings
        self._baton = baton
        self._variant = variant
        self._acted = acted
        self._called = "initial_observation"
        self._num_calls = 0
        self._num_sampled = 0
        self._scope = anyio.CancelScope()

    async def play(self) -> None:
        episode = self._episode
        key = episode.script.key(self._variant.member(episode.member))
        with seeded_rng(key.env_rng()), playing(key, 0):
            try:
                await contained(self._turns)
            except _BrokenCall as call:
                episode.broken = call.broken
            except OutOfTimeError:
                episode.broken = self._broken("late", _late(self._settings.seconds)).broken
            except LeakedTaskError as error:
                episode.broken = self._broken("open", error).broken
            except CancelledInsideError as error:
                episode.broken = self._broken("raised", error).broken
            finally:
                self._baton.leave(episode.member)
        if episode.broken is not None:
            episode.end = "broken"

    async def _turns(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        episode, settings = self._episode, self._settings
        first = await self._call("initial_observation")
        episode.observation, episode.stop = self._checked(checked_first_observation, first)
        while True:
            limit = self._limit()
            if limit is not None:
                episode.end, episode.limit = "limit", limit
            elif len(episode.turns) >= settings.max_turns:
                episode.end, limit = "unfinished", StopReason.MAX_TURNS
            if limit is not None:
                if hears_early_end(episode.env):
                    await self._call("on_early_end", limit)
                return
            if await self._turn():
                episode.end = "ended"
                return

    async def _turn(self) -> bool:
        """Act once. Whether the episode is over."""
        episode = self._episode
        action = self._cut(len(episode.turns))
        self._num_sampled += len(action.tokens)
        episode.action = action
        self._acted.append(episode.member)
        options = _step_options(episode.env, action.stop_reason)
        answer = await self._call("step", list(action.tokens), **options)
        result = self._checked(checked_step, answer)
        rewrites = bool(getattr(episode.env, "rewrites_history", False))
        episode.turns.append(Turn(episode.observation, episode.stop, action, result, rewrites))
        episode.observation, episode.stop = result.next_observation, result.next_stop_condition
        episode.action = None
        return result.episode_done

    async def _call(self, method: str, *args: Any, **options: Any) -> Any:
        episode = self._episode
        await self._baton.take(episode.member)
        self._called = method
        self._num_calls += 1
        seed = episode.script.seed
        self._variant.seed_global_rngs(seed, method, episode.member, self._num_calls)
        self._scope.deadline = anyio.current_time() + self._settings.seconds
        watch = SleepWatch(call_env(episode.env, method, *args, **options))
        try:
            return await watch
        except (Exception, SystemExit) as error:
            raise self._broken("raised", error) from error
        except BaseExceptionGroup as group:
            raise without_exceptions(group) from None
        finally:
            episode.calls.append((method, watch.seconds))
            self._scope.deadline = float("inf")
            self._baton.pass_on(episode.member)

    def _checked(self, check: Callable[[Any], Any], answer: Any) -> Any:
        try:
            return check(answer)
        except (TypeError, ValueError) as error:
            raise self._broken("answered", error, answer) from error

    def _broken(self, how: Any, error: BaseException, answer: Any = None) -> _BrokenCall:
        method = users_method(self._episode.env, self._called)
        return _broken(self._called, how, error, method, answer)

    # ---------------------------------------------------------------------------------- limits

    def _limit(self) -> StopReason | None:
        """The limit of the run that ends the episode before its next turn."""
        limits, turns = self._settings.limits, len(self._episode.turns)
        if limits.max_turns is not None and turns >= limits.max_turns:
            return StopReason.MAX_TURNS
        sampled = limits.max_sampled_tokens
        if sampled is not None and self._num_sampled >= sampled:
            return StopReason.MAX_SAMPLED_TOKENS
        context = limits.max_trajectory_tokens
        if context is not None and self._episode.observation.length >= context:
            return StopReason.CONTEXT_OVERFLOW
        return None

    def _cut(self, turn: int) -> Any:
        """The action of a turn, cut where a run would cut it."""
        limits, action = self._settings.limits, self._episode.script.action(turn)
        room = [len(action.tokens)]
        if limits.max_tokens_per_turn is not None:
            room.append(limits.max_tokens_per_turn)
        if limits.max_sampled_tokens is not None:
            room.append(limits.max_sampled_tokens - self._num_sampled)
        if limits.max_trajectory_tokens is not None:
            room.append(limits.max_trajectory_tokens - self._episode.observation.length)
        if min(room) == len(action.tokens):
            return action
        return msgspec.structs.replace(
            action, tokens=action.tokens[: min(room)], stop_reason="length"
        )


def _step_options(env: Env, stop_reason: Any) -> dict[str, Any]:
    return {"extra": ActionExtra(stop_reason=stop_reason)} if _takes_extra(type(env)) else {}


@lru_cache(maxsize=256)
def _takes_extra(env_type: type[Env]) -> bool:
    parameters = inspect.signature(env_type.step).parameters.values()
    return any(p.name == "extra" or p.kind is p.VAR_KEYWORD for p in parameters)


def _broken(
    where: str, how: Any, error: BaseException, method: Any, answer: Any = None
) -> _BrokenCall:
    failure: Any = env_failure(where, error, method).failure
    return _BrokenCall(Broken(where, how, failure, answer, is_injected(error)))


def _late(seconds: float) -> TimeoutError:
    return TimeoutError(
        f"expected an answer within {seconds} seconds; got none. See what it waits for, or give it "
        "more with check_env(..., max_step_seconds=...)."
    )
