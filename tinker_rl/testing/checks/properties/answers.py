"""A problem knows its own answer, and should take it."""

from __future__ import annotations

from typing import Any

from tinker_rl.envs import ProblemEnv
from tinker_rl.testing.checks.case import Case, Finding, Setup
from tinker_rl.testing.checks.properties.locating import of_episode
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.scripts import GroupScript

__all__ = ["no_reference", "reference_answer", "spellings"]

_WAYS = (
    "{}",
    "\\boxed{{{}}}",
    "The answer is {}.",
    "#### {}",
    "<answer>{}</answer>",
    "Answer: {}",
)
_MOST_SHOWN = 12


def spellings(env: Any) -> tuple[str, ...]:
    """The reference answer of a problem, in the usual ways to write one; empty if it has none."""
    if not isinstance(env, ProblemEnv):
        return ()
    try:
        reference: Any = env.get_reference_answer()
    except Exception:  # that is found where it is played
        return ()
    if reference is None or not str(reference).strip():  # the task is open-ended
        return ()
    return tuple(way.format(reference) for way in _WAYS)


def no_reference(setup: Setup) -> str:
    """Why `reference_answer` is left out."""
    if not setup.knows_answer:
        return "it is no ProblemEnv, or its reference answer is empty"
    return "" if setup.valid is not None else "valid_actions draws, and lists no right answer"


def reference_answer(case: Case) -> Finding | None:
    """One of the ways to write the reference answer is graded right."""
    episode = case.group.episodes[0]
    spelled = spellings(episode.env)
    tried = dict.fromkeys((*spelled, *(case.setup.valid or ())))
    if not spelled or any(_is_right(case, text) for text in tried):
        return None
    shown = ", ".join(repr(text) for text in list(tried)[:_MOST_SHOWN])
    shown += f" and {len(tried) - _MOST_SHOWN} more" if len(tried) > _MOST_SHOWN else ""
    return of_episode(
        episode,
        "expected its own reference answer to be right in one of the usual ways to write it; got "
        f"wrong for {shown}. See what check_answer compares: a text never equals a number. If an "
        "answer is to look otherwise, show one with valid_actions=[...], or leave this out with "
        "skip={'reference_answer': 'why'}.",
        "check_answer",
    )


def _is_right(case: Case, text: str) -> bool:
    """Whether the first member is graded right for a text."""
    stop = case.setup.space.stops[0] if case.setup.space.stops else ()
    action = DrawnAction((*case.setup.space.encode(text), *stop))
    script = GroupScript(case.script.seed, ((action,), *case.script.members[1:]))
    episode = Case(case.setup, script).group.episodes[0]
    if any(turn.result.metrics.get("correct", 0) > 0 for turn in episode.turns):
        return True
    env: Any = episode.env
    try:
        return bool(env.check_answer(text))
    except Exception:  # that is found where it is played
        return False
