"""Spans of time in as few rows as their overlap allows."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

__all__ = ["pack"]


def pack(spans: Sequence[tuple[float, float]]) -> list[int]:
    """A row for each span `(begin, end)`, so that no two in a row overlap.

    By their beginning, each goes to the lowest row that is free: that takes as many rows as the
    most spans at one time.
    """
    rows = [0] * len(spans)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for place in sorted(range(len(spans)), key=lambda place: spans[place]):
        begin, end = spans[place]
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, row))
        rows[place] = row
    return rows
