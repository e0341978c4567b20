"""Cancels a group of episodes at every place where it waits, and looks at what is left."""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
from collections.abc import Callable
from inspect import signature
from typing import Any

from tinker_rl.envs import EnvGroupBuilder
from tinker_rl.errors import RequestError
from tinker_rl.policies import Actor
from tinker_rl.rl import RolloutLimits
from tinker_rl.testing.cancellation.await_points import AwaitPoint
from tinker_rl.testing.cancellation.cancelled_run import CancelledRun, Plan
from tinker_rl.testing.cancellation.leaks import Leak, while_open
from tinker_rl.testing.cancellation.replay_line import ReplayLine
from tinker_rl.testing.cancellation.report import (
    KINDS,
    CancellationError,
    CancellationReport,
    Finding,
)

__all__ = ["CancellationError", "CancellationReport", "Finding", "cancel_everywhere", "evenly"]

MAX_FAILED_POINTS = 20
"""After so many points with findings the rest is not looked at."""

FEW_TURNS = RolloutLimits(max_turns=5)


def cancel_everywhere(
    builder: EnvGroupBuilder | Callable[[], EnvGroupBuilder],
    *,
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
    """Play a group once to count its await points, then anew for each, and cancel it there.

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
    """
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
    gc.freeze()  # what is there already need not be looked through after every run
    try:
        report = _Search(plan, max_points, cut_cleanup).report(at)
    finally:
        gc.unfreeze()
    if report.findings:
        options = _given(
            backend=backend,
            seed=seed,
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


class _Search:
    """Goes through the points and collects what is found, the same findings together."""

    def __init__(self, plan: Plan, max_points: int, cut_cleanup: bool) -> None:
        self._plan = plan
        self._max_points = max_points
        self._cut_cleanup = cut_cleanup
        self._found: dict[tuple[str, str], tuple[Leak, list[AwaitPoint | None]]] = {}
        self._num_missed = 0

    def report(self, at: int | None) -> CancellationReport:
        whole = CancelledRun(self._plan)
        leaks = whole.play()
        if leaks:  # what is started once a process, workers and caches, must not count
            whole = CancelledRun(self._plan, whole)
            leaks = whole.play()
        gc.freeze()  # what the first run imported, too
        self._note(None, leaks)
        points = whole.points
        tried: list[int] = []
        num_failed = 0
        for number in self._numbers(points, at) if not self._found else []:
            point = points[number]
            tried.append(number)
            num_failed += self._try(point, whole)
            if num_failed == MAX_FAILED_POINTS:
                break
        return CancellationReport(
            points=tuple(points),
            tried=tuple(tried),
            findings=self._findings(),
            notes=self._notes(len(points), len(tried), num_failed, at),
        )

    def _findings(self) -> tuple[Finding, ...]:
        """Causes first; otherwise in the order in which they were found."""
        found = sorted(self._found.values(), key=lambda one: KINDS.index(one[0].kind))
        return tuple(
            Finding(leak.kind, str(leak), tuple(dict.fromkeys(where))) for leak, where in found
        )

    def _try(self, point: AwaitPoint, whole: CancelledRun) -> bool:
        """Cancel at a point; whether anything was found."""
        run = CancelledRun(self._plan, whole, point)
        found = run.play()
        self._num_missed += not run.was_cancelled
        self._note(point, found)
        if self._cut_cleanup and point.method.endswith(".cleanup"):
            cut = CancelledRun(self._plan, whole, point, cut_cleanup=True).play()
            cut = [leak._replace(text=f"{leak.text}, after a clean-up cut short") for leak in cut]
            self._note(point, cut)
            found = [*found, *cut]
        return bool(found)

    def _note(self, point: AwaitPoint | None, leaks: list[Leak]) -> None:
        for leak in dict.fromkeys(leaks):
            kind, text, _ = while_open(leak)
            key = kind, _nameless(text)
            told, where = self._found.get(key, (leak, []))
            if told.kind == "thrown away" or len(leak.along) > len(told.along):  # it says more
                told = leak
            self._found[key] = told, [*where, point]

    def _numbers(self, points: list[AwaitPoint], at: int | None) -> list[int]:
        if at is None:
            return evenly(len(points), self._max_points)
        if not 0 <= at < len(points):
            raise RequestError(
                f"cancel_everywhere.at: expected 0 to {len(points) - 1}, the await points of this "
                f"group; got {at}. Call it without `at` to find them."
            )
        return [at]

    def _notes(self, size: int, tried: int, failed: int, at: int | None) -> tuple[str, ...]:
        notes: list[str] = []
        if at is None and size > self._max_points:
            notes.append(f"{self._max_points} points evenly spread over {size} (max_points)")
        if failed == MAX_FAILED_POINTS:
            notes.append(f"stopped after {tried} points, {failed} of them with findings")
        if self._num_missed:
            notes.append(
                f"points not met again: {self._num_missed}. The group is not the same each "
                "time. Give a function that makes a fresh builder, and draw from current_rng(); "
                "what waits for sockets or subprocesses waits now more, now less often"
            )
        if not size:
            notes.append("nothing of the environment ever waits: there is nowhere to cancel it")
        return tuple(notes)


def _nameless(text: str) -> str:
    """The text without names that differ from run to run, of temporary files."""
    return re.sub(rf"{re.escape(tempfile.gettempdir())}{re.escape(os.sep)}\S+", "*", text)


def evenly(size: int, at_most: int) -> list[int]:
    """Numbers below `size`, evenly spread from the first to the last, `at_most` of them."""
    if size <= at_most:
        return list(range(size))
    if at_most < 2:
        return [0][:at_most]
    return [round(i * (size - 1) / (at_most - 1)) for i in range(at_most)]
