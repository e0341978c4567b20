"""Where in the user's code a finding belongs, when nothing was raised there."""

from __future__ import annotations

import inspect
from typing import Any

from tinker_rl.envs.error_reports import is_ours, report_of
from tinker_rl.envs.message_env import users_method
from tinker_rl.testing.checks.case import Finding
from tinker_rl.testing.checks.records import Broken, PlayedEpisode, PlayedGroup

__all__ = ["function_in", "of_broken", "of_builder", "of_episode", "of_raised"]


def of_broken(broken: Broken, member: int | None = None, advice: str = "") -> Finding:
    """A call that went wrong, as a run would report it."""
    failure = broken.failure
    told = failure.error
    if broken.how == "raised" and failure.error_type != "RequestError":
        told = f"{broken.where}: {failure.error_type}: {told}"
    if advice:
        told = f"{told}{'' if told.endswith(('.', '!', '?')) else '.'} {advice}"
    return Finding(told, failure.location, member)


def of_episode(episode: PlayedEpisode, text: str, method: str = "step") -> Finding:
    """Something wrong with what an environment answers."""
    called = users_method(episode.env, method)
    return Finding(f"{_named(called, method)}: {text}", _defined_at(called), episode.member)


def of_builder(group: PlayedGroup, text: str, method: str) -> Finding:
    """Something wrong with what a builder answers."""
    called = getattr(group.builder, method, None)
    return Finding(f"{_named(called, method)}: {text}", _defined_at(called))


def of_raised(group: PlayedGroup, error: BaseException, method: str, rule: str) -> Finding:
    """An error where a builder was to answer."""
    report = report_of(error)
    found = of_builder(group, f"{rule}; got {report.error_type}: {report.text}", method)
    return Finding(found.text, report.location or found.location)


def function_in(builder: object) -> str:
    """`file:line` of a function of the user's that the builder holds; empty if there is none."""
    for value in vars(builder).values():
        code = getattr(value, "__code__", None)
        if code is not None and not is_ours(code.co_filename):
            return f"{code.co_filename}:{code.co_firstlineno}"
    return ""


def _named(method: Any, name: str) -> str:
    owner = getattr(method, "__self__", None)
    return name if owner is None else f"{type(owner).__name__}.{name}"


def _defined_at(method: Any) -> str:
    """`file:line` of a method; of the user's class, if it inherits the method from ours."""
    code = getattr(inspect.unwrap(method), "__code__", None) if method is not None else None
    if code is not None and not is_ours(code.co_filename):
        return f"{code.co_filename}:{code.co_firstlineno}"
    owner = type(getattr(method, "__self__", None))
    try:
        file = inspect.getfile(owner)
        return "" if is_ours(file) else f"{file}:{inspect.getsourcelines(owner)[1]}"
    except (OSError, TypeError):
        return ""
