"""Calls that must come to an answer, whatever the policy wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinker_rl.envs import StepResult
from tinker_rl.rl.failures import FOR_LINKED
from tinker_rl.testing.checks.case import Case, Finding
from tinker_rl.testing.checks.properties.locating import of_broken
from tinker_rl.testing.checks.records import Broken, PlayedEpisode

__all__ = [
    "about",
    "answers_any_action",
    "answers_in_time",
    "broken_steps",
    "leaves_nothing_open",
    "starts",
    "step_results",
]

_REPORT = re.compile(r"\b(?:Message)?StepResult\.(\w+)")


def about(broken: Broken) -> str:
    """The property that a broken call of `step` breaks."""
    if broken.how in ("late", "open"):
        return {"late": "answers_in_time", "open": "leaves_nothing_open"}[broken.how]
    if broken.how == "answered":
        is_step = isinstance(broken.answer, StepResult)
        return "observations" if is_step else "step_results"
    field = _REPORT.search(broken.failure.error)
    if field is not None and broken.failure.error_type in ("RequestError", "UnknownNameError"):
        own = {"reward": "rewards_finite", "metrics": "metrics", "logs": "logs"}
        return own.get(field[1], "step_results")
    return "answers_any_action"


def broken_steps(case: Case, name: str) -> Iterator[tuple[PlayedEpisode, Broken]]:
    """Steps that went wrong in the way of one property."""
    for episode in case.group.episodes:
        broken = episode.broken
        if broken is None or broken.where not in ("step", "on_early_end"):
            continue
        if broken.is_injected:  # to let it through is right: a run drops the group
            continue
        if about(broken) == name:
            yield episode, broken


def starts(case: Case) -> Finding | None:
    """`initial_observation` does not raise."""
    for episode in case.group.episodes:
        broken = episode.broken
        if broken is None or broken.is_injected:
            continue
        if broken.where == "initial_observation" and broken.how == "raised":
            return of_broken(broken, episode.member)
    return None


def answers_any_action(case: Case) -> Finding | None:
    """`step` does not raise, whatever the policy wrote."""
    for episode, broken in broken_steps(case, "answers_any_action"):
        advice = (
            "What a policy writes may be anything: answer it with a reward, and raise only for "
            "faults that are not its own."
        )
        return of_broken(broken, episode.member, advice)
    return None


def step_results(case: Case) -> Finding | None:
    """`step` gives a StepResult whose fields agree."""
    for episode, broken in broken_steps(case, "step_results"):
        return of_broken(broken, episode.member)
    return None


def answers_in_time(case: Case) -> Finding | None:
    """No call takes longer than `max_step_seconds`."""
    calls = [(e.broken, e.member) for e in case.group.episodes]
    for broken, member in [*calls, *((broken, None) for broken in case.group.broken)]:
        if broken is not None and broken.how == "late":
            return of_broken(broken, member, FOR_LINKED if case.setup.linked else "")
    return None


def leaves_nothing_open(case: Case) -> Finding | None:
    """Task groups and cancel scopes are left by the end of the episode."""
    calls = [(e.broken, e.member) for e in case.group.episodes]
    for broken, member in [*calls, *((broken, None) for broken in case.group.broken)]:
        if broken is not None and broken.how == "open":
            return of_broken(broken, member)
    return None
