"""Rolling out one episode.

What an environment or a sampler raises becomes a value here, once; cancellation goes through.
"""

from __future__ import annotations

import inspect
import logging
from functools import lru_cache
from typing import Any

import anyio
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
from tinker_rl.errors import PromptTooLongError, RequestError
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.outcomes import (
    Completed,
    EnvFailure,
    Failure,
    InfraFailure,
    Outcome,
    Truncated,
)
from tinker_rl.types import ModelInput

__all__ = ["NO_LIMITS", "EpisodeFailed", "do_single_rollout", "failure_of"]

logger = logging.getLogger(__name__)

NO_LIMITS = RolloutLimits()


async def do_single_rollout(
    completer: TokenCompleter, env: Env, limits: RolloutLimits = NO_LIMITS
) -> Outcome:
    """Let `completer` act in `env` until the task ends, a limit is met, or something breaks.

    Cancelled, it leaves the environment as it is; cleaning up is for whoever made it.

    Returns:
        How it ended. Time that runs out while the policy acts truncates the episode; while the
        environment is busy, it is the environment's failure; before the first action was sampled,
        the sampler's.
    """
    episode = _Episode(completer, env, limits)
    with anyio.move_on_after(limits.max_seconds):
        return await episode.play()
    return episode.out_of_time()


class EpisodeFailed(Exception):
    """Carries a failure from where it happened to the end of the episode, or of the group."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class _Episode:
    """An episode under way: what was done so far, and who is waited for."""

    def __init__(self, completer: TokenCompleter, env: Env, limits: RolloutLimits) -> None:
        self._completer = completer
        self._env = env
        self._limits = limits
        self._transitions: list[Transition] = []
        self._num_sampled_tokens = 0
        self._waits_for = ""
        self._observation: Observation = ModelInput.empty()

    async def play(self) -> Outcome:
        """Take turns to the end."""
        try:
            self._observation, stop = await self._first_observation()
            while True:
                limit = self._limit_before_turn()
                if limit is not None:
                    return self._truncated(limit)
                action = await self._act(self._observation, stop)
                if action is None:
                    return self._truncated(StopReason.CONTEXT_OVERFLOW)
                result = await self._step(action)
                self._observation, stop = result.next_observation, result.next_stop_condition
                if result.episode_done:
                    return self._ended(result, action)
        except EpisodeFailed as failed:
            return failed.failure

    def out_of_time(self) -> Outcome:
        """The outcome of an episode that was stopped by its time limit."""
        seconds = self._limits.max_seconds
        error = f"no answer within the {seconds} seconds of an episode (RolloutLimits.max_seconds)"
        if self._waits_for != "sample":
            return EnvFailure(self._waits_for, "TimeoutError", error)
        if not self._transitions:
            return InfraFailure("sample", "TimeoutError", error)
        return self._truncated(StopReason.ROLLOUT_TIMEOUT)

    async def _first_observation(self) -> tuple[Observation, StopCondition]:
        self._waits_for = "initial_observation"
        try:
            observation, stop = await self._env.initial_observation()
        except Exception as error:
            raise failure_of(EnvFailure, "initial_observation", error) from error
        return _checked("initial_observation", observation), stop

    def _limit_before_turn(self) -> StopReason | None:
        limits = self._limits
        if limits.max_turns is not None and len(self._transitions) >= limits.max_turns:
            return StopReason.MAX_TURNS
        if self._tokens_left() == 0:
            return StopReason.MAX_SAMPLED_TOKENS
        return None

    def _tokens_left(self) -> int | None:
        limit = self._limits.max_sampled_tokens
        return None if limit is None else max(0, limit - self._num_sampled_tokens)

    async def _act(
        self, observation: Observation, stop: StopCondition
    ) -> TokensWithLogprobs | None:
        """The policy's action; None when the context has no room left for one."""
        self._waits_for = "sample"
        try:
            action = await self._completer(observation, stop, max_tokens=self._tokens_left())
            _check_logprobs(action)
        except PromptTooLongError as error:
            if self._transitions:
                return None
            raise failure_of(EnvFailure, "initial_observation", error) from error
        except RequestError as error:  # what was asked is what the environment said
            raise failure_of(EnvFailure, "observation", error) from error
        except Exception as error:
            raise failure_of(InfraFailure, "sample", error) from error
        self._num_sampled_tokens += len(action.tokens)
        return action

    async def _step(self, action: TokensWithLogprobs) -> StepResult:
        self._waits_for = "step"
        extra = ActionExtra(stop_reason=action.stop_reason)
        options = {"extra": extra} if _takes_extra(type(self._env)) else {}
        try:
            result: Any = await self._env.step(list(action.tokens), **options)
            if not isinstance(result, StepResult):
                raise TypeError(f"expected a StepResult; got {type(result).__name__}")
        except Exception as error:
            raise failure_of(EnvFailure, "step", error) from error
        if not result.episode_done:
            _checked("step", result.next_observation)
        self._transitions.append(
            Transition(
                ob=self._observation,
                ac=action,
                reward=result.reward,
                episode_done=result.episode_done,
                metrics=result.metrics,
                logs=result.logs,
            )
        )
        return result

    def _ended(self, result: StepResult, action: TokensWithLogprobs) -> Outcome:
        """The task's own end; or a cut action's, whatever the environment made of the rest."""
        reason = result.stop_reason or StopReason.COMPLETED
        if reason.truncated:
            return self._truncated(reason)
        if action.stop_reason == "length":
            return self._truncated(StopReason.MAX_TOKENS)
        return Completed(self._trajectory(reason))

    def _truncated(self, limit: StopReason) -> Truncated:
        return Truncated(limit, self._trajectory(limit))

    def _trajectory(self, reason: StopReason) -> Trajectory:
        return Trajectory(
            transitions=list(self._transitions), final_ob=self._observation, stop_reason=reason
        )


def failure_of(
    kind: type[EnvFailure] | type[InfraFailure], where: str, error: Exception
) -> EpisodeFailed:
    """What an error means for the episode, to be raised from it."""
    logger.debug("%s in %s", kind.__name__, where, exc_info=error)
    return EpisodeFailed(kind(where, type(error).__name__, str(error)))


def _checked(where: str, observation: Any) -> Observation:
    """An observation to act on: a model input with a token to predict the next from."""
    if isinstance(observation, ModelInput) and observation.length > 0:
        return observation
    got = (
        "an empty one" if isinstance(observation, ModelInput) else f"a {type(observation).__name__}"
    )
    error = f"expected an observation that is a ModelInput with at least one token; got {got}"
    raise EpisodeFailed(EnvFailure(where, "ShapeError", error))


def _check_logprobs(action: TokensWithLogprobs) -> None:
    logprobs = action.maybe_logprobs
    if logprobs is not None and not np.all(np.isfinite(logprobs)):
        raise ArithmeticError("the sampler gave logprobs that are not finite")


@lru_cache(maxsize=256)
def _takes_extra(env_type: type[Env]) -> bool:
    parameters = inspect.signature(env_type.step).parameters.values()
    return any(p.name == "extra" or p.kind is p.VAR_KEYWORD for p in parameters)
