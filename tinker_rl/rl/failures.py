"""What is raised by an environment or a sampler, made a value once."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from tinker_rl.envs.error_reports import report_of
from tinker_rl.rl.outcomes import EnvFailure, Failure, InfraFailure

__all__ = ["EpisodeFailed", "env_failure", "infra_failure", "without_exceptions"]

logger = logging.getLogger(__name__)


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
        method: The user's code, to name where it is defined if the error does not say.
    """
    logger.debug("The environment failed in %s", where, exc_info=error)
    report = report_of(error)
    location = report.location or _defined_at(method)
    return EpisodeFailed(EnvFailure(where, report.error_type, report.text, location))


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


def _defined_at(method: Callable[..., Any] | None) -> str:
    code = getattr(inspect.unwrap(method), "__code__", None) if method is not None else None
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"
