"""What is raised by an environment or a sampler, made a value once."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import sniffio

from tinker_rl.envs import EnvGroupBuilder
from tinker_rl.envs.error_reports import ErrorReport, is_ours, report_of
from tinker_rl.errors import TinkerRLError
from tinker_rl.rl.outcomes import EnvFailure, Failure, InfraFailure

__all__ = [
    "FOR_LINKED",
    "EpisodeFailed",
    "env_failure",
    "env_report",
    "infra_failure",
    "too_slow",
    "without_exceptions",
]

logger = logging.getLogger(__name__)

FOR_LINKED = (
    "Where members wait for each other, every move must wake the others, and so must an end that "
    "the environment did not decide: it hears of that in on_early_end."
)
"""What to do where a linked member waits in vain."""


class EpisodeFailed(Exception):
    """Carries a failure from where it happened to the end of the episode, or of the group."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def env_failure(
    where: str, error: BaseException, method: Callable[..., Any] | None = None
) -> EpisodeFailed:
    """What an error of an environment means for the episode, to be raised from it.

    Args:
        where: What was called.
        error: What it raised, or what is wrong with what it returned.
        method: The user's code, to be named where the error does not say whose it is.
    """
    logger.debug("The environment failed in %s", where, exc_info=error)
    report = env_report(where, error, method)
    location = report.location or _defined_at(method)
    return EpisodeFailed(EnvFailure(where, report.error_type, report.text, location))


def env_report(where: str, error: BaseException, method: Callable[..., Any] | None) -> ErrorReport:
    """An error of a user's method in words, with a hint where it speaks of the wrong event loop.

    What tinker_rl found wrong is said of the user's class and method.
    """
    report = report_of(error)
    text = report.text
    owner = getattr(method, "__self__", None)
    name = type(owner).__name__
    is_named = owner is None or text.startswith(f"{name}.")
    if not is_named and (isinstance(error, TinkerRLError) or not report.location):
        called = where if hasattr(owner, where) else getattr(method, "__name__", where)
        text = f"{name}.{called}: {text}"
    return msgspec.structs.replace(report, text=text + _hint(text, method))


def too_slow(
    where: str, seconds: float | None, limit: str, method: Callable[..., Any] | None
) -> EpisodeFailed:
    """What it means that a user's method did not answer in time.

    Args:
        where: What was called.
        seconds: How long it had.
        limit: Name of the limit in `RolloutLimits`.
        method: The user's code.
    """
    late = TimeoutError(
        f"expected an answer within {seconds} seconds (RolloutLimits.{limit}); got none. See what "
        "it waits for, or raise the limit."
    )
    return env_failure(where, late, method)


def infra_failure(where: str, error: Exception) -> EpisodeFailed:
    """What an error of the sampler means for the episode, to be raised from it."""
    logger.debug("The sampler failed in %s", where, exc_info=error)
    report = report_of(error)
    return EpisodeFailed(InfraFailure(where, report.error_type, report.text))


def without_exceptions(group: BaseExceptionGroup) -> BaseException:
    """The cancellation in a group; what a cancelled environment raised beside it is dropped.

    On trio both come together when a task group of the environment is cancelled and one of its
    tasks raises meanwhile.
    """
    logger.debug("A cancelled environment raised", exc_info=group)
    rest = group.split(Exception)[1]
    return group if rest is None else rest


_NO_ASYNCIO = (
    "no running event loop",
    "no current event loop",
    "written for some other framework like asyncio",
)
"""How asyncio's functions fail on trio."""

_NO_TRIO = (
    "must be called from async context",
    "Task got bad yield: <class 'trio.",
    "'RunContext' object has no attribute",
)
"""How trio's functions fail on asyncio."""


def _hint(text: str, method: Callable[..., Any] | None) -> str:
    owner = getattr(method, "__self__", None)
    is_in_loop = getattr(owner, "runs_in", "loop") == "loop"
    is_on_trio = is_in_loop and sniffio.current_async_library() == "trio"
    if is_on_trio and any(sign in text for sign in _NO_ASYNCIO):
        write = (
            "write builders with anyio"
            if isinstance(owner, EnvGroupBuilder)
            else "write environments with anyio, set runs_in = 'thread'"
        )
        return (
            f" (This run is on trio: {write}, or run all of it on asyncio: "
            "anyio.run(main, config, backend='asyncio').)"
        )
    if not is_on_trio and any(sign in text for sign in _NO_TRIO):
        return (
            " (This code runs on asyncio, where trio's functions do not work: write it with anyio.)"
        )
    return ""


def _defined_at(method: Callable[..., Any] | None) -> str:
    """`file:line` of a method; of the user's class, if it inherits the method from ours."""
    code = getattr(inspect.unwrap(method), "__code__", None) if method is not None else None
    if code is None:
        return ""
    if not is_ours(code.co_filename):
        return f"{code.co_filename}:{code.co_firstlineno}"
    owner = type(getattr(method, "__self__", None))
    try:
        return f"{inspect.getfile(owner)}:{inspect.getsourcelines(owner)[1]}"
    except (OSError, TypeError):
        return f"{code.co_filename}:{code.co_firstlineno}"
