"""Where the time of a step goes, in numbers and on the timeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tinker_rl.rl.timeline import NO_TIMELINE, Timeline

__all__ = ["Stopwatch"]

MOST = 0.9
"""Share of a batch's groups after which the rest are stragglers."""


class Stopwatch:
    """Times one step after the other.

    Args:
        timeline: Is told of what the learner does.
        now: Gives the time, in seconds; by default as the timeline does.
    """

    def __init__(
        self, timeline: Timeline = NO_TIMELINE, now: Callable[[], float] | None = None
    ) -> None:
        self._timeline = timeline
        self._now = now or self._timeline.now
        self._finished_at: dict[int, float] = {}
        """Of groups that no batch has taken yet."""
        self._most_finished_at = 0.0
        self._began_at = self._complete_at = self._trained_at = self._published_at = self._now()
        self._free_at = self._published_at
        """When the learner had nothing more to do for the last step."""
        self._step = -1

    def start(self) -> None:
        """The first step begins now."""
        self._published_at = self._free_at = self._now()

    def group_finished(self, group: int) -> None:
        """A group is finished."""
        self._finished_at[group] = self._now()

    def batch_complete(self, step: int, groups: Sequence[int]) -> None:
        """The last groups of a batch were handed to the learner."""
        self._step = step
        self._began_at, self._complete_at = self._published_at, self._now()
        finished = {group: self._finished_at.pop(group, self._began_at) for group in groups}
        times = sorted(finished.values())
        self._most_finished_at = times[max(0, math.ceil(MOST * len(times)) - 1)]
        last = max(finished, key=lambda group: (finished[group], group))
        self._tell("waits for groups", self._free_at, self._complete_at, group=last)

    def trained(self) -> None:
        """The optimiser has stepped."""
        self._trained_at = self._now()
        self._tell("trains", self._complete_at, self._trained_at)

    def published(self) -> None:
        """The weights are published, or could not be; the next step begins."""
        self._published_at = self._free_at = self._now()
        self._tell("publishes", self._trained_at, self._published_at)

    def saved(self, began: float) -> None:
        """A checkpoint is saved, which the next step waited for."""
        self._free_at = self._now()
        self._tell("saves", began, self._free_at)

    def _tell(self, name: str, began: float, ended: float, **facts: int) -> None:
        self._timeline.span("learner", name, began, ended, step=self._step, **facts)

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
