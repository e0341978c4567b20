"""What may be given for a builder, made a function that gives a fresh one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import sniffio

from tinker_rl.envs import Env, EnvGroupBuilder, MessageEnv, ProblemGroupBuilder
from tinker_rl.envs.answers import named
from tinker_rl.errors import RequestError

__all__ = ["BuilderSource", "builder_source", "check_no_loop"]

BuilderSource: TypeAlias = EnvGroupBuilder | Callable[[], EnvGroupBuilder] | Callable[[], Env]
"""A builder, or a function that makes one, or a function that makes an environment."""

NUM_ENVS = 2
"""Members of a group where a function makes one environment."""


def builder_source(source: Any) -> tuple[Callable[[], EnvGroupBuilder], bool]:
    """A function that makes the builder anew, and whether the builder is ours.

    Raises:
        RequestError: if it is nothing that environments come from.
    """
    if _is_builder(source):
        return partial(copy.copy, source), False
    give: Any = source
    made: Any = give() if callable(source) else source
    if _is_builder(made):
        return give, False
    if isinstance(made, Env):
        return partial(ProblemGroupBuilder, give, NUM_ENVS, "check_env"), True
    is_message_env = isinstance(made, MessageEnv)
    advice = (
        "Wrap it: lambda: EnvFromMessageEnv(renderer, MyMessageEnv())."
        if is_message_env
        else "Give check_env(lambda: MyBuilder(...)) or check_env(lambda: MyEnv(...))."
    )
    raise RequestError(
        f"check_env: expected an EnvGroupBuilder, or a function that makes one or an Env; got "
        f"{named(made)}. {advice}"
    )


def check_no_loop() -> None:
    """Check that no event loop runs here. Raises RequestError if one does."""
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return
    raise RequestError(
        f"check_env: expected to be called from plain code, for it runs event loops of its own; "
        f"got a call inside {library}. Use `await check_env_async(...)`."
    )


def _is_builder(value: Any) -> bool:
    return not isinstance(value, type) and callable(getattr(value, "make_envs", None))
