"""The timeline of runs in Chrome's trace format, for Perfetto (ui.perfetto.dev) and the like.

A process for each run, a thread for each lane; rollouts lie in as few threads as their overlap
allows, and the turns of each member in threads below. An arrow goes from the group that the learner
waited for to its wait; counters have the reward.

Source: "Trace Event Format", the document of the Chromium project.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from tinker_rl.viewer.packing import pack
from tinker_rl.viewer.plain import encode
from tinker_rl.viewer.reader import RunReader
from tinker_rl.viewer.timeline import Span
from tinker_rl.viewer.unwritable import unwritable

__all__ = ["trace_events", "write_trace"]

Event: TypeAlias = dict[str, Any]

LANES = ("admission", "learner", "evaluation", "rollout")
"""From above; what else there is comes below."""
REWARD = "env/all/reward/total"
_LANE = 1_000_000
"""Threads between lanes: their numbers put lanes in order."""
_ROW = 1000
"""Threads between rows of a lane: one for each member."""
_TOUCHING = 1e-5
"""Seconds that neighbours may overlap by."""
_KINDS = {"s": "samples", "e": "environment"}


def write_trace(runs: Sequence[RunReader], path: Path) -> int:
    """Write the timelines of runs, whole or not at all; gives the number of events.

    Args:
        runs: Each polled before.
        path: The file, which is replaced.
    Raises:
        DataError: if the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    count = 0
    try:
        with temporary.open("wb") as file:
            file.write(b'{"displayTimeUnit":"ms","traceEvents":[')
            for count, event in enumerate(_events_of_all(runs), start=1):
                file.write((b"\n" if count == 1 else b",\n") + encode(event))
            file.write(b"\n]}\n")
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error, "--trace") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return count


def _events_of_all(runs: Sequence[RunReader]) -> Iterator[Event]:
    for n, run in enumerate(runs):
        spans = list(run.spans.spans())
        yield from trace_events(n + 1, run.name, spans, run.training_metric(REWARD))


class _Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a thread, in whole microseconds since the run's first span."""

    begin: int
    end: int
    name: str
    category: str
    args: dict[str, Any]


def trace_events(
    process: int, name: str, spans: Sequence[Span], rewards: Mapping[int, float]
) -> Iterator[Event]:
    """The events of a run; its time begins with its first span.

    Args:
        process: The number that stands for the run.
        name: Of the run.
        spans: Its timeline.
        rewards: Mean reward of each step.
    """
    return _Trace(process, spans).events(name, rewards)


class _Trace:
    """Which span is in which thread."""

    def __init__(self, process: int, spans: Sequence[Span]) -> None:
        self._process = process
        self._origin = min((span.at for span in spans), default=0.0)
        self._lanes: defaultdict[str, list[Span]] = defaultdict(list)
        for span in sorted(spans, key=lambda span: span.at):
            self._lanes[span.lane].append(span)
        others = [lane for lane in self._lanes if lane not in LANES]
        self._first_thread = {
            lane: _LANE * number for number, lane in enumerate([*LANES, *others], start=1)
        }
        self._threads: dict[int, str] = {}
        """Names of those that are used."""
        self._place_of: dict[int, tuple[int, _Slice]] = {}
        """Of each group, the thread and the slice of its last rollout."""

    def events(self, name: str, rewards: Mapping[int, float]) -> Iterator[Event]:
        yield self._metadata(0, "process_name", name=name)
        yield self._metadata(0, "process_sort_index", sort_index=self._process)
        slices: list[tuple[int, _Slice]] = []
        for lane, spans in self._lanes.items():
            slices += self._of_lane(lane, spans)
        for thread, told in self._threads.items():
            yield self._metadata(thread, "thread_name", name=told)
            yield self._metadata(thread, "thread_sort_index", sort_index=thread)
        for thread, one in slices:
            yield self._complete(thread, one)
        yield from self._marks()
        yield from self._arrows(slices)
        yield from self._counters(rewards)

    def _of_lane(self, lane: str, spans: Sequence[Span]) -> Iterator[tuple[int, _Slice]]:
        """Spans that overlap lie in threads of their own; turns of a member in one below."""
        shown = [span for span in spans if span.lane != "run"]
        rows = pack([(span.at, span.at + span.seconds - _TOUCHING) for span in shown])
        by_row: defaultdict[int, list[Span]] = defaultdict(list)
        for row, span in zip(rows, shown, strict=True):
            by_row[row].append(span)
        for row, packed in sorted(by_row.items()):
            thread = self._first_thread[lane] + _ROW * row
            told = f"{lane} {row + 1}" if lane == "rollout" or row else lane
            self._threads[thread] = told
            in_row = one_after_the_other([self._slice(span) for span in packed])
            for span, one in zip(packed, in_row, strict=True):
                yield thread, one
                if lane == "rollout" and span.group is not None:
                    self._place_of[span.group] = thread, one
                for member, turns in _by_member(span.turns or ()).items():
                    below = thread + 1 + member % (_ROW - 1)
                    self._threads[below] = f"{told}, member {member}"
                    yield from ((below, inner) for inner in self._member(one, member, turns))

    def _slice(self, span: Span) -> _Slice:
        known = {"group": span.group, "step": span.step, "version": span.version}
        args = {name: value for name, value in known.items() if value is not None}
        return _Slice(
            begin=self._micros(span.at),
            end=self._micros(span.at + max(0.0, span.seconds)),
            name=span.name,
            category=span.lane,
            args=args | (span.facts or {}),
        )

    def _member(
        self, group: _Slice, member: int, turns: Sequence[tuple[str, float, float]]
    ) -> Iterator[_Slice]:
        """The episode, and its turns inside; all of it inside of the group's time."""

        def moment(seconds: float) -> int:
            return min(max(group.begin + round(seconds * 1e6), group.begin), group.end)

        args = {"group": group.args.get("group"), "member": member}
        inner = [
            _Slice(
                begin=moment(offset),
                end=moment(offset + seconds),
                name=_KINDS.get(kind, kind),
                category="turn",
                args=args,
            )
            for kind, offset, seconds in sorted(turns, key=lambda turn: turn[1])
        ]
        begin, end = inner[0].begin, max(one.end for one in inner)
        name = f"{group.name}, member {member}"
        yield _Slice(begin=begin, end=end, name=name, category="episode", args=args)
        yield from one_after_the_other(inner)

    def _marks(self) -> Iterator[Event]:
        """When the run started and ended."""
        for span in self._lanes["run"]:
            head = self._head("i", 0, span.name, self._micros(span.at))
            yield head | {"s": "p"}

    def _arrows(self, slices: Sequence[tuple[int, _Slice]]) -> Iterator[Event]:
        """From the group that the learner waited for to the wait."""
        for number, (thread, wait) in enumerate(slices):
            found = self._place_of.get(wait.args.get("group", -1))
            if wait.category != "learner" or found is None:
                continue
            source, rollout = found
            link = {"cat": "wait", "id": self._process << 32 | number}  # text is refused
            arrived = within(wait, wait.end)
            yield self._head("s", source, "waited for", within(rollout, arrived)) | link
            yield self._head("f", thread, "waited for", arrived) | link | {"bp": "e"}

    def _counters(self, rewards: Mapping[int, float]) -> Iterator[Event]:
        """The reward of each step, from when it has trained."""
        for span in self._lanes["learner"]:
            if span.name == "trains" and span.step is not None and span.step in rewards:
                at = self._micros(span.at + span.seconds)
                yield self._head("C", 0, "reward", at) | {"args": {"reward": rewards[span.step]}}

    def _complete(self, thread: int, one: _Slice) -> Event:
        head = self._head("X", thread, one.name, one.begin)
        return head | {"dur": one.end - one.begin, "cat": one.category, "args": one.args}

    def _head(self, phase: str, thread: int, name: str, at: int) -> Event:
        return {"ph": phase, "pid": self._process, "tid": thread, "name": name, "ts": at}

    def _metadata(self, thread: int, kind: str, **args: Any) -> Event:
        return {"ph": "M", "pid": self._process, "tid": thread, "name": kind, "args": args}

    def _micros(self, at: float) -> int:
        return round((at - self._origin) * 1e6)


def within(one: _Slice, at: int) -> int:
    """The nearest moment at which a slice is open: it is not at its end any more."""
    return max(one.begin, min(at, one.end - 1))


def one_after_the_other(slices: Sequence[_Slice]) -> list[_Slice]:
    """Slices by their beginning, each ended where the next begins at the latest: clocks are read
    one after the other, and rounding makes neighbours overlap."""
    ends = [one.begin for one in slices[1:]]
    return [
        replace(one, end=min(one.end, next_begin))
        for one, next_begin in zip(slices, [*ends, slices[-1].end] if slices else [], strict=True)
    ]


def _by_member(turns: Iterable[Any]) -> dict[int, list[tuple[str, float, float]]]:
    found: defaultdict[int, list[tuple[str, float, float]]] = defaultdict(list)
    for turn in turns:
        member, kind, offset, seconds = turn
        found[int(member)].append((str(kind), float(offset), float(seconds)))
    return found
