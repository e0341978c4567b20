"""Where the time of a step goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

__all__ = ["Stopwatch"]

MOST = 0.9
"""Share of a batch's groups after which the rest are stragglers."""


class Stopwatch:
    """Times one step after the other.

    Args:
        now: Gives the time, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._finished_at: dict[int, float] = {}
        """Of groups that no batch has taken yet."""
        self._most_finished_at = 0.0
        self._began_at = self._complete_at = self._trained_at = self._published_at = now()

    def start(self) -> None:
        """The first step begins now."""
        self._published_at = self._now()

    def group_finished(self, group: int) -> None:
        """A group is finished."""
        self._finished_at[group] = self._now()

    def batch_complete(self, groups: Sequence[int]) -> None:
        """The last groups of a batch were handed to the learner."""
        self._began_at, self._complete_at = self._published_at, self._now()
        times = sorted(self._finished_at.pop(group, self._began_at) for group in groups)
        self._most_finished_at = times[max(0, math.ceil(MOST * len(times)) - 1)]

    def trained(self) -> None:
        """The optimiser has stepped."""
        self._trained_at = self._now()

    def published(self) -> None:
        """The weights are published, or could not be; the next step begins."""
        self._published_at = self._now()

    def metrics(self, num_tokens: float) -> dict[str, float]:
        """Of the step that was published last, in seconds: `time/sampling` is what the learner
        waited for its batch, `time/stragglers` the part of it after nine tenths were finished."""
        total = self._published_at - self._began_at
        since = max(self._began_at, self._most_finished_at)
        return {
            "time/sampling": self._complete_at - self._began_at,
            "time/stragglers": max(0.0, self._complete_at - since),
            "time/train": self._trained_at - self._complete_at,
            "time/publish": self._published_at - self._trained_at,
            "time/total": total,
            "sampling/tokens_per_second": num_tokens / max(total, 1e-9),
        }
