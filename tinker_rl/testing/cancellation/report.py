"""What `cancel_everywhere` found, and how it says so."""

from __future__ import annotations

from collections import Counter

import msgspec

from tinker_rl.testing.cancellation.await_points import AwaitPoint
from tinker_rl.testing.cancellation.replay_line import ReplayLine

__all__ = ["KINDS", "CancellationError", "CancellationReport", "Finding"]

KINDS = (
    "failed",
    "broken",
    "never ends",
    "swallowed",
    "cleanup",
    "task",
    "async generator",
    "process",
    "thread",
    "file",
    "socket",
    "thrown away",
    "lock",
    "borrowed",
)
"""What a finding may be. Causes come before what follows of them, and are told first."""

MAX_SHOWN = 8

WHAT_IS_SEEN = (
    "looked for: tasks, threads, processes, files, sockets, generators, locks. What else is taken "
    "(rows of a pool, a count on a server) is seen with borrowed=lambda: pool.num_in_use"
)


class Finding(msgspec.Struct, frozen=True):
    """What was left behind, and where the episode was cancelled."""

    kind: str
    """One of `failed`, `broken`, `never ends`, `swallowed`, `cleanup`, `task`, `async generator`,
    `process`, `thread`, `file`, `socket`, `thrown away`, `lock`, `borrowed`."""
    text: str
    points: tuple[AwaitPoint | None, ...]
    """Every place with the same finding; None: an episode that was not cancelled."""


class CancellationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where a group was cancelled, and what was found."""

    points: tuple[AwaitPoint, ...]
    """Every await point of a group that is not cancelled, in order."""
    tried: tuple[int, ...]
    """Numbers of those at which it was cancelled."""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"cancelled at {len(self.tried)} of {len(self.points)} await points"]
        methods: dict[str, int] = {}
        for point in self.points:
            methods[point.method] = methods.get(point.method, 0) + 1
        lines += [f"  {name}: {count}" for name, count in methods.items()]
        acting = Counter(point.acting for point in self.points if point.acting)
        if acting:
            shares = ", ".join(f"{count} with {name}" for name, count in acting.items())
            lines.append(f"  of these {shares}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, f"  {WHAT_IS_SEEN}"])


class CancellationError(AssertionError):
    """A cancelled group left something behind.

    Attributes:
        report: What was found, and where.
    """

    def __init__(self, report: CancellationReport, replay: ReplayLine) -> None:
        self.report = report
        super().__init__(_message(report, replay))


def _message(report: CancellationReport, replay: ReplayLine) -> str:
    hit = {point.number for finding in report.findings for point in finding.points if point}
    where = f"{len(hit)} of {len(report.tried)} await points" if hit else "no cancellation at all"
    lines = [
        f"cancel_everywhere: expected a cancelled group to leave nothing behind; got "
        f"{len(report.findings)} finding{'s' * (len(report.findings) > 1)} at {where}."
    ]
    for finding in report.findings[:MAX_SHOWN]:
        lines += ["", *_shown(finding, replay)]
    if len(report.findings) > MAX_SHOWN:
        lines += ["", f"and {len(report.findings) - MAX_SHOWN} more: see error.report.findings"]
    return "\n".join([*lines, *(f"({note})" for note in report.notes)])


def _shown(finding: Finding, replay: ReplayLine) -> list[str]:
    lines = [f"[{finding.kind}] {finding.text}"]
    first = finding.points[0]
    if first is None:
        return [*lines, "    in a group that was not cancelled", f"    replay: {replay.at(None)}"]
    lines.append(f"    cancelled at {first}")
    if first.source:
        lines.append(f"        {first.source}")
    others = [point.number for point in finding.points[1:] if point is not None]
    if others:
        shown = ", ".join(map(str, others[:10])) + (", ..." if len(others) > 10 else "")
        lines.append(f"    and at {shown}")
    lines.append(f"    replay: {replay.at(first.number)}")
    return lines
