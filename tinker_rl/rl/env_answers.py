"""What environments and their builders must answer; what else comes is named in the error."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinker_rl.completers import StopCondition
from tinker_rl.envs import (
    Env,
    MessageEnv,
    MessageStepResult,
    Metrics,
    Observation,
    StepResult,
)
from tinker_rl.envs.answers import named
from tinker_rl.errors import ShapeError
from tinker_rl.types import ModelInput

__all__ = [
    "check_env",
    "checked_envs",
    "checked_first_observation",
    "checked_pairs",
    "checked_step",
    "checked_tags",
]


def checked_envs(made: Any) -> list[Env]:
    """What `make_envs` gave. Raises TypeError or ShapeError where these are no environments."""
    if isinstance(made, str | Mapping) or not isinstance(made, Iterable):
        raise TypeError(
            f"expected a list of environments; got {named(made)}. Return one Env for each episode."
        )
    envs: list[Any] = list(made)  # pyright: ignore[reportUnknownArgumentType]
    if not envs:
        raise ShapeError(
            "expected at least one environment; got none. Return one Env for each episode."
        )
    for env in envs:
        check_env(env)
    num_different = len({id(env) for env in envs})
    if num_different < len(envs):
        raise ShapeError(
            f"expected {len(envs)} environments, one for each episode; got {num_different}, some "
            "of them several times. Make each anew: [MyEnv() for _ in range(n)], not [MyEnv()] * n."
        )
    return envs


def check_env(env: Any) -> None:
    """Check that a policy of tokens can act in it. Raises TypeError."""
    if isinstance(env, Env):
        return
    expected = f"expected an Env; got {named(env)}"
    if isinstance(env, MessageEnv):
        raise TypeError(f"{expected}, a MessageEnv. Wrap it in EnvFromMessageEnv(renderer, env).")
    if isinstance(env, type):
        raise TypeError(f"{expected}. Make one: {env.__name__}(...).")
    missing = [
        name for name in ("initial_observation", "step") if not callable(getattr(env, name, None))
    ]
    if missing:
        raise TypeError(
            f"{expected}, without {' and '.join(missing)}. Derive its class from "
            "tinker_rl.envs.Env."
        )


def checked_first_observation(returned: Any) -> tuple[Observation, StopCondition]:
    """What `initial_observation` gave. Raises TypeError or ShapeError."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:  # pyright: ignore[reportUnknownArgumentType]
        raise TypeError(
            f"expected a pair of observation and stop condition; got {named(returned)}. Return "
            "both, such as (ModelInput.from_ints(tokens), [stop_token])."
        )
    observation, stop = returned  # pyright: ignore[reportUnknownVariableType]
    _check_observation(observation, stop)
    return observation, stop  # pyright: ignore[reportUnknownVariableType]


def checked_step(result: Any) -> StepResult:
    """What `step` gave. Raises TypeError or ShapeError."""
    if not isinstance(result, StepResult):
        do = "Return StepResult(reward, episode_done, next_observation, next_stop_condition)."
        if isinstance(result, MessageStepResult):
            do = "Derive the class from MessageEnv and wrap it in EnvFromMessageEnv(renderer, env)."
        raise TypeError(f"expected a StepResult; got {named(result)}. {do}")
    if not result.episode_done:
        _check_observation(result.next_observation, result.next_stop_condition)
    elif not isinstance(result.next_observation, ModelInput):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            "expected StepResult.next_observation to be a ModelInput; got "
            f"{named(result.next_observation)}. Give ModelInput.empty() where nothing comes next."
        )
    return result


def _check_observation(observation: Any, stop: Any) -> None:
    """An observation to act on has a token to predict the next from, and something that ends it."""
    if not isinstance(stop, list | tuple | str | None):
        raise TypeError(
            "expected a stop condition that is a list of token ids or of strings; got "
            f"{named(stop)}. Give [] if nothing ends an action but its limit."
        )
    is_input = isinstance(observation, ModelInput)
    if is_input and observation.length > 0:
        return
    raise ShapeError(
        "expected an observation that is a ModelInput with at least one token; got "
        f"{'an empty one' if is_input else named(observation)}. Make it with "
        "ModelInput.from_ints(tokens) or a renderer."
    )


def checked_pairs(returned: Any, size: int) -> list[tuple[float, Metrics]]:
    """What `compute_group_rewards` gave for `size` episodes. Raises ShapeError."""
    is_listed = isinstance(returned, Iterable) and not isinstance(returned, str | Mapping)
    pairs: Sequence[Any] = list(returned) if is_listed else ()  # pyright: ignore[reportUnknownArgumentType]
    wrong = [pair for pair in pairs if not _is_pair(pair)]
    if not is_listed:
        got = named(returned)
    elif wrong:
        got = f"a list with {named(wrong[0])} in it"
    elif len(pairs) != size:
        got = f"{len(pairs)}"
    else:
        return list(pairs)
    raise ShapeError(
        f"expected a list of {size} (reward, metrics) pairs, one per trajectory; got {got}. Return "
        "[(reward, {}) for ...], in the order of the trajectories."
    )


def _is_pair(pair: Any) -> bool:
    is_two = isinstance(pair, tuple | list) and len(pair) == 2  # pyright: ignore[reportUnknownArgumentType]
    return is_two and isinstance(pair[1], Mapping)


def checked_tags(tags: Any) -> tuple[str, ...]:
    """What `logging_tags` gave. Raises TypeError."""
    if inspect.iscoroutine(tags):
        tags.close()
        raise TypeError(
            "expected a list of strings; got a coroutine. Define it with `def`, not `async def`."
        )
    if not isinstance(tags, list | tuple) or any(type(tag) is not str for tag in tags):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        raise TypeError(f"expected a list of strings; got {tags!r}. Return [] for none.")
    return tuple(tags)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
