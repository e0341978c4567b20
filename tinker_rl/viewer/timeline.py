"""Spans of `timeline.jsonl` in columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from tinker_rl.viewer.plain import NONE, Names, number, plain, text, with_nulls

__all__ = ["Span", "SpanTable"]

MOST_TURNS = 20_000
"""Turns of all spans with which the page stays quick."""
_NAMED = ("group", "step", "version")
_OWN = frozenset({"lane", "name", "at", "seconds", "turns", *_NAMED})


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span of time."""

    lane: str
    name: str
    at: float
    """When it began, in seconds since the epoch."""
    seconds: float
    group: int | None = None
    step: int | None = None
    version: int | None = None
    facts: dict[str, Any] | None = None
    turns: list[Any] | None = None
    """`[member, "s" or "e", offset in seconds, seconds]` of each: the sampler or the environment
    was waited for."""


class SpanTable:
    """Spans in the order in which they were written down: that of their ends."""

    def __init__(self) -> None:
        self._lanes, self._names = Names(), Names()
        self._lane, self._name = array("q"), array("q")
        self._at, self._seconds = array("d"), array("d")
        self._ints = {name: array("q") for name in _NAMED}
        self._facts: list[bytes | None] = []
        """JSON of each, which is smaller than what it describes."""
        self._turns: list[bytes | None] = []
        self._last_mark: int | None = None
        self.num_turns = 0

    def __len__(self) -> int:
        return len(self._at)

    def add(self, row: Mapping[str, Any]) -> bool:
        """Take in a span; False if the row is none."""
        at, seconds = number(row.get("at")), number(row.get("seconds"))
        if at is None or seconds is None:
            return False
        self._lane.append(self._lanes.place(text(row.get("lane", ""))))
        self._name.append(self._names.place(text(row.get("name", ""))))
        self._at.append(at)
        self._seconds.append(seconds)
        for name, column in self._ints.items():
            value = row.get(name)
            column.append(value if isinstance(value, int) and 0 <= value < 2**53 else NONE)
        facts = {text(name): plain(value) for name, value in row.items() if name not in _OWN}
        self._facts.append(msgspec.json.encode(facts) if facts else None)
        if row.get("lane") == "run":
            self._last_mark = len(self) - 1
        turns = row.get("turns")
        is_list = isinstance(turns, list) and bool(turns)
        self.num_turns += len(turns) if isinstance(turns, list) else 0
        self._turns.append(msgspec.json.encode(plain(turns)) if is_list else None)
        return True

    @property
    def started_at(self) -> float | None:
        """When the first span began, in seconds since the epoch."""
        return min(self._at) if self._at else None

    @property
    def has_all_turns(self) -> bool:
        """Whether the page shows turns: not where there are too many."""
        return self.num_turns < MOST_TURNS

    @property
    def last_mark(self) -> Span | None:
        """The last thing that happened to the whole run: that it started, or ended."""
        return None if self._last_mark is None else self._span(self._last_mark)

    def spans(self) -> Iterator[Span]:
        """Each span, turns and all, in the order in which they were written down."""
        return map(self._span, range(len(self)))

    def _span(self, place: int) -> Span:
        facts, turns = self._facts[place], self._turns[place]
        ints = {name: column[place] for name, column in self._ints.items()}
        return Span(
            lane=self._lanes.names[self._lane[place]],
            name=self._names.names[self._name[place]],
            at=self._at[place],
            seconds=self._seconds[place],
            facts=None if facts is None else msgspec.json.decode(facts),
            turns=None if turns is None else msgspec.json.decode(turns),
            **{name: None if value == NONE else value for name, value in ints.items()},
        )

    def columns(self) -> dict[str, Any]:
        """All spans as the page takes them, by their beginning."""
        at, seconds = np.array(self._at), np.array(self._seconds)
        order = np.argsort(at, kind="stable")
        origin = float(at[order[0]]) if order.size else 0.0
        ints = {name: np.array(column)[order] for name, column in self._ints.items()}
        has_turns = self.has_all_turns
        places = order.tolist()
        return {
            "origin": origin,
            "lane": np.array(self._lane)[order].tolist(),
            "lanes": self._lanes.names,
            "name": np.array(self._name)[order].tolist(),
            "names": self._names.names,
            "start": np.round(at[order] - origin, 6).tolist(),
            "seconds": np.round(seconds[order], 6).tolist(),
            **{name: with_nulls(column) for name, column in ints.items()},
            "facts": [_raw(self._facts[place]) for place in places],
            "turns": [_raw(self._turns[place]) if has_turns else None for place in places],
        }


def _raw(encoded: bytes | None) -> msgspec.Raw | None:
    return None if encoded is None else msgspec.Raw(encoded)
