"""Cancels a group of episodes at every place where it waits, and looks at what is left."""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import msgspec

from tinker_rl.envs import EnvGroupBuilder
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.policies import Actor
from tinker_rl.rl import RolloutLimits
from tinker_rl.testing.cancellation.any_actions import NamedActions, WrittenActions, listed_actions
from tinker_rl.testing.cancellation.await_points import THE_POLICY, AwaitPoint
from tinker_rl.testing.cancellation.cancelled_run import CancelledRun, Plan
from tinker_rl.testing.cancellation.leaks import Leak, while_open
from tinker_rl.testing.cancellation.replay_line import ReplayLine
from tinker_rl.testing.cancellation.report import (
    KINDS,
    CancellationError,
    CancellationReport,
    Finding,
)
from tinker_rl.testing.cancellation.threads import executors
from tinker_rl.testing.strategies.actions import ValidActions
from tinker_rl.testing.strategies.token_space import Action

__all__ = ["CancellationError", "CancellationReport", "Finding", "cancel_everywhere", "evenly"]

MAX_VALID_GROUPS = 4
"""So many groups are played at most, until each of the valid actions was played."""

MAX_FAILED_POINTS = 20
"""After so many points with findings the rest is not looked at."""

FEW_TURNS = RolloutLimits(max_turns=5)


def cancel_everywhere(
    builder: EnvGroupBuilder | Callable[[], EnvGroupBuilder],
    *,
    valid_actions: ValidActions | None = None,
    make_actor: Callable[[], Actor] | None = None,
    at: int | None = None,
    backend: str = "trio",
    seed: int = 0,
    limits: RolloutLimits = FEW_TURNS,
    max_points: int = 200,
    cut_cleanup: bool = False,
    borrowed: Callable[[], float] | None = None,
    settle_seconds: float = 0.3,
    virtual_time: bool = True,
) -> CancellationReport:
    """Play a group to count its await points, then anew for each, and cancel it there.

    Afterwards `cleanup` must have run exactly once and to its end, and nothing may be left: tasks,
    threads, open files and sockets, child processes, async generators, locks that are held. The
    cancellation must have got through: code that catches it and goes on is found. A cancelled
    scope cancels again at every later await, so a clean-up that awaits without a shield is found
    as well.

    A point is a suspension in code of the environment or the builder, in a task that it started,
    while the policy acts, or during a call that runs in a thread or a process. Points are numbered
    for each member by itself, so that the others' timing does not matter.

    Args:
        builder: A builder, or better a function that makes a fresh one for each run.
        valid_actions: What a good policy writes, as in `check_env`. They are played in their
            order, in groups of their own next to that of random tokens, which seldom come far.
        make_actor: Makes who acts, for each run; None: random tokens that end as asked.
        at: Only this point; the error says which.
        backend: `trio`, on which `train()` runs, or `asyncio`.
        seed: Of the episodes, of the actor and of trio's order of tasks.
        limits: Of the episodes; by default they have 5 turns at most. `cleanup_seconds` holds.
        max_points: Where there are more points, so many are tried, evenly spread from the first to
            the last; the report says so.
        cut_cleanup: Also let the time of the clean-up run out at each of its await points. What it
            did not come to must not be lost even then.
        borrowed: How much is borrowed now of what cannot be seen from outside (rows of a pool, a
            count on a server): the same number is expected after each run as before it.
        settle_seconds: How long threads and processes may take to end, in real time.
        virtual_time: Whether sleeping takes no time. Time stands still while a thread works, and
            is real while a task waits for a socket or a subprocess.
    Returns:
        Which points there are, and which were tried.
    Raises:
        CancellationError: with all findings, if there are any; an `AssertionError`.
        RequestError: if there is no such point as `at`, or the builder cannot be watched.
        ConfigError: if both `valid_actions` and `make_actor` say who acts.
    """
    if valid_actions is not None and make_actor is not None:
        raise ConfigError(
            "cancel_everywhere: expected valid_actions or make_actor; got both, and one alone can "
            "act. Leave one of them out."
        )
    valid = listed_actions(valid_actions)
    plan = Plan(
        builder=builder,
        make_actor=make_actor,
        backend=backend,
        seed=seed,
        limits=limits,
        borrowed=borrowed,
        settle_seconds=settle_seconds,
        virtual_time=virtual_time,
    )
    executors()
    gc.freeze()  # what is there already need not be looked through after every run
    try:
        report = _Search(plan, valid, max_points, cut_cleanup).report(at)
    finally:
        gc.unfreeze()
    if report.findings:
        options = _given(
            backend=backend,
            seed=seed,
            valid_actions=valid_actions,
            make_actor=make_actor,
            limits=limits,
            cut_cleanup=cut_cleanup,
            borrowed=borrowed,
            settle_seconds=settle_seconds,
            virtual_time=virtual_time,
        )
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        scope = {**caller.f_globals, **caller.f_locals}
        raise CancellationError(report, ReplayLine(builder, options, scope))
    return report


def _given(**options: Any) -> dict[str, Any]:
    """The options of a call that are not as they are by default."""
    defaults = signature(cancel_everywhere).parameters
    return {name: given for name, given in options.items() if given != defaults[name].default}


class _Played(NamedTuple):
    """A group that was not cancelled, and how it was played."""

    plan: Plan
    whole: CancelledRun


class _Search:
    """Goes through the points and collects what is found, the same findings together."""

    def __init__(
        self, plan: Plan, valid: Sequence[Action], max_points: int, cut_cleanup: bool
    ) -> None:
        self._plan = plan
        self._valid = valid
        self._max_points = max_points
        self._cut_cleanup = cut_cleanup
        self._found: dict[tuple[str, str], tuple[Leak, list[AwaitPoint | None]]] = {}
        self._num_missed = 0
        self._points: list[AwaitPoint] = []
        self._played: list[_Played] = []
        """The group of each point."""
        self._steps: dict[str, bool] = {}
        self._never_awaited: list[str] = []
        self._waited_in: set[str] = set()

    def report(self, at: int | None) -> CancellationReport:
        self._play_whole_groups()
        executors()
        gc.freeze()  # what the first runs imported, too
        tried: list[int] = []
        num_failed = 0
        for number in self._numbers(at) if not self._found else []:
            tried.append(number)
            num_failed += self._try(self._points[number], self._played[number])
            if num_failed == MAX_FAILED_POINTS:
                break
        return CancellationReport(
            points=tuple(self._points),
            tried=tuple(tried),
            findings=self._findings(),
            notes=self._notes(len(tried), num_failed, at),
        )

    def _play_whole_groups(self) -> None:
        """Play groups that are not cancelled: of valid actions until each was played, then one."""
        left = set(range(len(self._valid)))
        written = WrittenActions(self._valid)
        for _ in range(MAX_VALID_GROUPS if left else 0):
            make_actor = partial(NamedActions, written, min(left), self._plan.seed)
            whole = self._play_whole(make_actor=make_actor, acting="valid actions")
            if not isinstance(whole.actor, NamedActions) or not left & whole.actor.played:
                break
            left -= whole.actor.played
            if not left:
                break
        self._play_whole(**({"acting": "random tokens"} if self._valid else {}))

    def _play_whole(self, **changes: Any) -> CancelledRun:
        plan = msgspec.structs.replace(self._plan, **changes)
        whole = CancelledRun(plan)
        leaks = whole.play()
        if leaks:  # what is started once a process, workers and caches, must not count
            whole = CancelledRun(plan, whole)
            leaks = whole.play()
        self._note(None, leaks)
        first, acting = len(self._points), plan.acting
        self._points += [
            msgspec.structs.replace(point, number=first + point.number, acting=acting)
            for point in whole.points
        ]
        self._played += [_Played(plan, whole)] * len(whole.points)
        self._steps |= whole.steps
        self._never_awaited += whole.never_awaited
        self._waited_in |= whole.waited_in
        return whole

    def _findings(self) -> tuple[Finding, ...]:
        """Causes first; otherwise in the order in which they were found."""
        found = sorted(self._found.values(), key=lambda one: KINDS.index(one[0].kind))
        return tuple(
            Finding(leak.kind, str(leak), tuple(dict.fromkeys(where))) for leak, where in found
        )

    def _try(self, point: AwaitPoint, played: _Played) -> bool:
        """Cancel at a point; whether anything was found."""
        plan, whole = played
        run = CancelledRun(plan, whole, point)
        found = run.play()
        self._num_missed += not run.was_cancelled
        self._note(point, found)
        if self._cut_cleanup and point.method.endswith(".cleanup"):
            cut = CancelledRun(plan, whole, point, cut_cleanup=True).play()
            cut = [leak._replace(text=f"{leak.text}, after a clean-up cut short") for leak in cut]
            self._note(point, cut)
            found = [*found, *cut]
        return bool(found)

    def _note(self, point: AwaitPoint | None, leaks: list[Leak]) -> None:
        for leak in dict.fromkeys(leaks):
            kind, text, _ = while_open(leak)
            key = kind, _nameless(kind, text)
            told, where = self._found.get(key, (leak, []))
            if told.kind == "thrown away" or len(leak.along) > len(told.along):  # it says more
                told = leak
            self._found[key] = told, [*where, point]

    def _numbers(self, at: int | None) -> list[int]:
        size = len(self._points)
        if at is None:
            return evenly(size, self._max_points)
        if not 0 <= at < size:
            raise RequestError(
                f"cancel_everywhere.at: expected 0 to {size - 1}, the await points of this "
                f"group; got {at}. Call it without `at` to find them."
            )
        return [at]

    def _notes(self, tried: int, failed: int, at: int | None) -> tuple[str, ...]:
        size = len(self._points)
        notes: list[str] = []
        if at is None and size > self._max_points:
            notes.append(f"{self._max_points} points evenly spread over {size} (max_points)")
        if failed == MAX_FAILED_POINTS:
            notes.append(f"stopped after {tried} points, {failed} of them with findings")
        if self._num_missed:
            fresh = "" if self._plan.is_fresh else ". Give a function that makes a fresh builder"
            notes.append(
                f"points not met again: {self._num_missed}. The group took another course, as it "
                "may where it waits for sockets, subprocesses or threads, or draws from another "
                f"generator than current_rng(){fresh}"
            )
        if not size:
            notes.append("nothing of the environment ever waits: there is nowhere to cancel it")
        notes += dict.fromkeys(self._never_awaited)
        return (*notes, *(self._not_reached() if tried else ()))

    def _not_reached(self) -> list[str]:
        """What must be known of a check that cancelled nothing of the environment."""
        steps = self._steps
        missed = [name for name in steps if steps[name] and name not in self._waited_in]
        names = " and ".join(missed)
        size = len(self._points)
        if size and all(point.method == THE_POLICY for point in self._points):
            note = f"all {size} await points were the policy's: no await of the environment was "
            note += f"reached, though {names} could wait" if missed else "reached"
        elif missed:
            note = f"{names} never waited, and could"
        else:
            return []
        is_anybody = not self._valid and self._plan.make_actor is None
        if is_anybody and (missed or not steps):
            note += ". Name valid_actions=..., or make_actor=..."
        return [note]


def _nameless(kind: str, text: str) -> str:
    """The text without what differs from run to run: numbers, and names of temporary files."""
    if kind == "borrowed":
        return re.sub(r"^\S+", "*", text)
    text = re.sub(r"((?:Thread|ThreadPoolExecutor)-|^process )[\d_]+", r"\1*", text)
    return re.sub(rf"{re.escape(tempfile.gettempdir())}{re.escape(os.sep)}\S+", "*", text)


def evenly(size: int, at_most: int) -> list[int]:
    """Numbers below `size`, evenly spread from the first to the last, `at_most` of them."""
    if size <= at_most:
        return list(range(size))
    if at_most < 2:
        return [0][:at_most]
    return [round(i * (size - 1) / (at_most - 1)) for i in range(at_most)]
