"""Rolling out one episode.

What an environment or a sampler raises becomes a value here, once; cancellation goes through.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import anyio
import msgspec
import numpy as np

from tinker_rl.completers import StopCondition, TokenCompleter, TokensWithLogprobs
from tinker_rl.envs import (
    ActionExtra,
    Env,
    Observation,
    StepResult,
    StopReason,
    Trajectory,
    Transition,
)
from tinker_rl.envs.blocking import CallSettings, call_env, use_call_settings
from tinker_rl.envs.containment import (
    CancelledInsideError,
    LeakedTaskError,
    OutOfTimeError,
    contained,
)
from tinker_rl.envs.message_env import hears_early_end, users_method
from tinker_rl.errors import PromptTooLongError, RequestError
from tinker_rl.rl.env_answers import check_env, checked_first_observation, checked_step
from tinker_rl.rl.failures import (
    EpisodeFailed,
    env_failure,
    infra_failure,
    too_slow,
    without_exceptions,
)
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.outcomes import (
    Completed,
    EnvFailure,
    InfraFailure,
    Outcome,
    Truncated,
    UnfinishedEpisode,
)
from tinker_rl.rl.tally import EpisodeTally, Tally

__all__ = ["NO_LIMITS", "do_single_rollout"]

NO_LIMITS = RolloutLimits()
"""The default limits."""


async def do_single_rollout(
    completer: TokenCompleter,
    env: Env,
    limits: RolloutLimits = NO_LIMITS,
    *,
    tally: EpisodeTally | None = None,
) -> Outcome:
    """Let `completer` act in `env` until the task ends, a limit is met, or something breaks.

    Cancelled, it leaves the environment as it is; cleaning up is for whoever made it. Tasks that
    the environment left running in task groups are cancelled.

    Args:
        completer: Acts.
        env: Is acted in.
        limits: When to stop.
        tally: Counts what the episode costs.
    Returns:
        How it ended. Time that runs out while the policy acts truncates the episode; while the
        environment is busy, it is the environment's failure; before the first action was sampled,
        the sampler's.
    """
    episode = _Episode(completer, env, limits, tally or Tally().of(0))
    outcome = await _outcome(episode, episode.play)
    if isinstance(outcome, EnvFailure | InfraFailure):
        return msgspec.structs.replace(outcome, unfinished=episode.unfinished)
    return outcome


async def _outcome(
    episode: _Episode, part: Callable[[anyio.CancelScope], Awaitable[Outcome]]
) -> Outcome:
    """What a part of the episode, bounded by its own scope, comes to."""
    try:
        return await contained(part)
    except EpisodeFailed as failed:
        return failed.failure
    except OutOfTimeError:
        if episode.was_acting:
            return await _outcome(episode, episode.end_out_of_time)
        return episode.out_of_time()
    except LeakedTaskError as error:
        return env_failure(episode.last_call, error, episode.last_method).failure
    except CancelledInsideError as error:
        return episode.cancelled_inside(str(error))


class _Episode:
    """An episode under way: what was done so far, and who is waited for."""

    def __init__(
        self, completer: TokenCompleter, env: Env, limits: RolloutLimits, tally: EpisodeTally
    ) -> None:
        self._completer = completer
        self._env = env
        self._limits = limits
        self._tally = tally
        self._transitions: list[Transition] = []
        self._num_sampled_tokens = 0
        self._observation: Observation | None = None
        self._action: TokensWithLogprobs | None = None
        self._scope = anyio.CancelScope()
        self._ends_at = math.inf
        self._step_ends_at = math.inf
        self._waits_for_sampler = False
        self.last_call = "initial_observation"
        """The method of the environment that was called last."""

    @property
    def last_method(self) -> Any:
        """The method itself, of the user's class; None if it has none of this name."""
        return users_method(self._env, self.last_call)

    async def play(self, scope: anyio.CancelScope) -> Outcome:
        """Take turns to the end, within the deadline that is set on `scope`."""
        self._scope = scope
        if self._limits.max_seconds is not None:
            scope.deadline = self._ends_at = anyio.current_time() + self._limits.max_seconds
        settings = CallSettings(
            max_threads=self._limits.max_blocking_threads,
            max_processes=self._limits.max_blocking_processes,
            waiting=self._waiting_for_a_turn,
        )
        use_call_settings(settings)
        return await self._take_turns()

    @property
    def was_acting(self) -> bool:
        """Whether the policy acts, and not for the first time."""
        return self._waits_for_sampler and bool(self._transitions)

    async def end_out_of_time(self, scope: anyio.CancelScope) -> Outcome:
        """End an episode whose time ran out while the policy acted."""
        self._scope, self._ends_at = scope, math.inf
        return await self._cut_short(StopReason.ROLLOUT_TIMEOUT)

    def out_of_time(self) -> Outcome:
        """The failure of an episode that was stopped by a time limit."""
        limits = self._limits
        if self._waits_for_sampler:
            error = (
                f"no answer within the {limits.max_seconds} seconds of an episode "
                "(RolloutLimits.max_seconds)"
            )
            return InfraFailure("sample", "TimeoutError", error)
        name = "max_step_seconds" if self._step_ends_at < self._ends_at else "max_seconds"
        return too_slow(self.last_call, getattr(limits, name), name, self.last_method).failure

    @property
    def unfinished(self) -> UnfinishedEpisode | None:
        """How far it has come; None before the first observation."""
        if self._observation is None:
            return None
        return UnfinishedEpisode(
            transitions=tuple(self._transitions),
            observation=self._observation,
            action=self._action,
        )

    def cancelled_inside(self, error: str) -> Outcome:
        """The outcome of an episode that cancelled itself."""
        if self._waits_for_sampler:
            return InfraFailure("sample", "CancelledError", error)
        return EnvFailure(self.last_call, "CancelledError", error)

    async def _take_turns(self) -> Outcome:
        observation, stop = await self._first_observation()
        self._observation = observation
        while True:
            limit = self._limit_before_turn()
            if limit is not None:
                return await self._cut_short(limit)
            self._action = action = await self._act(observation, stop)
            if action is None:
                return await self._cut_short(StopReason.CONTEXT_OVERFLOW)
            result = await self._step(observation, action)
            observation, stop = result.next_observation, result.next_stop_condition
            self._observation, self._action = observation, None
            if result.episode_done:
                return self._ended(result, action)

    # ---------------------------------------------------------------------------- environment

    async def _call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call the environment. Raises EpisodeFailed for whatever it raises."""
        self.last_call = method
        began = anyio.current_time()
        self._begin_step(began)
        try:
            return await call_env(self._env, method, *args, **options)
        except (Exception, SystemExit) as error:
            raise env_failure(method, error, self.last_method) from error
        except BaseExceptionGroup as group:
            raise without_exceptions(group) from None
        finally:
            self._scope.deadline = self._ends_at
            self._tally.waited_for_env(began)

    def _begin_step(self, now: float) -> None:
        seconds = self._limits.max_step_seconds
        if seconds is not None:
            self._step_ends_at = now + seconds
            self._scope.deadline = min(self._step_ends_at, self._ends_at)

    @contextmanager
    def _waiting_for_a_turn(self) -> Generator[None]:
        """The time of a step begins when its thread or process does."""
        self._scope.deadline = self._ends_at
        yield
        self._begin_step(anyio.current_time())

    async def _first_observation(self) -> tuple[Observation, StopCondition]:
        method = "initial_observation"
        try:
            check_env(self._env)
            return checked_first_observation(await self._call(method))
        except (TypeError, ValueError) as error:
            raise env_failure(method, error, self.last_method) from error

    async def _step(self, observation: Observation, action: TokensWithLogprobs) -> StepResult:
        options: dict[str, Any] = {}
        if _takes_extra(type(self._env)):
            options["extra"] = ActionExtra(stop_reason=action.stop_reason)
        try:
            result = checked_step(await self._call("step", list(action.tokens), **options))
        except (TypeError, ValueError) as error:
            raise env_failure("step", error, self.last_method) from error
        self._transitions.append(
            Transition(
                ob=observation,
                ac=action,
                reward=result.reward,
                episode_done=result.episode_done,
                metrics=result.metrics,
                logs=result.logs,
            )
        )
        return result

    # --------------------------------------------------------------------------------- policy

    def _limit_before_turn(self) -> StopReason | None:
        limits = self._limits
        if limits.max_turns is not None and len(self._transitions) >= limits.max_turns:
            return StopReason.MAX_TURNS
        if limits.max_sampled_tokens is not None and self._sampled_tokens_left() == 0:
            return StopReason.MAX_SAMPLED_TOKENS
        return None

    def _sampled_tokens_left(self) -> int:
        return max(0, (self._limits.max_sampled_tokens or 0) - self._num_sampled_tokens)

    def _max_tokens(self, observation: Observation) -> int | None:
        """Most tokens of the next action. Raises PromptTooLongError where there is no room."""
        limits = self._limits
        bounds: list[int] = []
        if limits.max_tokens_per_turn is not None:
            bounds.append(limits.max_tokens_per_turn)
        if limits.max_sampled_tokens is not None:
            bounds.append(self._sampled_tokens_left())
        if limits.max_trajectory_tokens is not None:
            room = limits.max_trajectory_tokens - observation.length
            if room < 1:
                raise PromptTooLongError(
                    "expected an observation that leaves room for an action within "
                    f"{limits.max_trajectory_tokens} tokens "
                    f"(RolloutLimits.max_trajectory_tokens); got one of {observation.length}"
                )
            bounds.append(room)
        return min(bounds, default=None)

    async def _act(
        self, observation: Observation, stop: StopCondition
    ) -> TokensWithLogprobs | None:
        """The policy's action; None when the context has no room left for one."""
        began = anyio.current_time()
        self._waits_for_sampler = True
        try:
            max_tokens = self._max_tokens(observation)
            action = await self._completer(observation, stop, max_tokens=max_tokens)
            self._num_sampled_tokens += len(action.tokens)
            self._tally.sampled(len(action.tokens))
            _check_logprobs(action)
        except PromptTooLongError as error:
            if self._transitions:
                return None
            raise env_failure(self.last_call, error, self.last_method) from error
        except RequestError as error:  # what was asked is what the environment said
            raise env_failure("observation", error, self.last_method) from error
        except Exception as error:
            raise infra_failure("sample", error) from error
        except BaseExceptionGroup as group:
            raise without_exceptions(group) from None
        finally:
            self._tally.waited_for_sampler(began)
        self._waits_for_sampler = False
        return action

    # ------------------------------------------------------------------------------------ end

    def _ended(self, result: StepResult, action: TokensWithLogprobs) -> Outcome:
        """The task's own end; or a cut action's, whatever the environment made of the rest."""
        reason = result.stop_reason or StopReason.COMPLETED
        if reason.truncated:
            return self._truncated(reason)
        if action.stop_reason == "length":
            return self._truncated(StopReason.MAX_TOKENS)
        return Completed(self._trajectory(reason))

    async def _cut_short(self, limit: StopReason) -> Truncated:
        """End at a limit that the environment does not know of. Raises EpisodeFailed."""
        self._waits_for_sampler = False
        if hears_early_end(self._env):
            await self._call("on_early_end", limit)
        return self._truncated(limit)

    def _truncated(self, limit: StopReason) -> Truncated:
        return Truncated(limit, self._trajectory(limit))

    def _trajectory(self, reason: StopReason) -> Trajectory:
        assert self._observation is not None  # or nothing would have ended
        return Trajectory(
            transitions=list(self._transitions), final_ob=self._observation, stop_reason=reason
        )


def _check_logprobs(action: TokensWithLogprobs) -> None:
    logprobs = action.maybe_logprobs
    if logprobs is not None and not np.all(np.isfinite(logprobs)):
        raise ArithmeticError("the sampler gave logprobs that are not finite")


@lru_cache(maxsize=256)
def _takes_extra(env_type: type[Env]) -> bool:
    step = getattr(env_type, "step", None)
    parameters = inspect.signature(step).parameters.values() if step is not None else ()
    return any(p.name == "extra" or p.kind is p.VAR_KEYWORD for p in parameters)
