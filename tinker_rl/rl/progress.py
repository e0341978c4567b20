"""What a run shows while it works: a live picture on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType

from tinker_rl.rl.live_view import (
    REWARD,
    LivePicture,
    accuracy_of,
    duration,
    figure,
    reward_of,
)
from tinker_rl.rl.window import Straggler

__all__ = ["RunProgress", "headline"]

REFRESHES_PER_SECOND = 2
"""The clocks of the picture show seconds."""
_NUM_REMEMBERED = 60
"""Steps whose rewards are kept to draw."""


def headline(metrics: Mapping[str, Any], prefix: str = "") -> str:
    """Reward and, where the environments report it, accuracy, in a few words."""
    found = (("reward", reward_of(metrics, prefix)), ("accuracy", accuracy_of(metrics, prefix)))
    return "  ".join(f"{name} {value:.3f}" for name, value in found if value is not None)


class RunProgress:
    """Shows a run. What it is told is cheap to take in; a thread draws it, twice a second.

    Args:
        num_steps: Steps of the whole run.
        first_step: Step that this start begins with.
        console: Where to show it; live if it is a terminal that can move its cursor.
        title: Of the picture.
    """

    def __init__(
        self, num_steps: int, first_step: int, console: Console, title: str = "tinker_rl"
    ) -> None:
        self._num_steps = num_steps
        self._first_step = first_step
        self._console = console
        self._title = title
        self._lock = threading.Lock()
        """Held for moments: the thread that draws must not hold up the run."""
        self._began_at = self._entered_at = time.monotonic()
        self._num_done = first_step
        self._metrics: Mapping[str, Any] = {}
        self._first_metrics: Mapping[str, Any] = {}
        self._rewards: deque[float | None] = deque(maxlen=_NUM_REMEMBERED)
        self._accuracies: deque[float | None] = deque(maxlen=_NUM_REMEMBERED)
        self._evaluations: list[tuple[int, float]] = []
        self._doing, self._doing_since = "starting", self._began_at
        self._groups_per_batch, self._in_order = 0, True
        self._finished: set[int] = set()
        """Groups that did not train yet."""
        self._in_flight: dict[int, float] = {}
        """When each group under way was started."""
        self._num_dropped = 0
        self._said, self._said_at = "", 0.0
        self._drawn_width = self._drawn_height = 0
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                console=console,
                get_renderable=self._draw,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )

    def __enter__(self) -> Self:
        self._entered_at = time.monotonic()
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._sum_up()

    # ---------------------------------------------------------------------------------- lines

    def say(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            self._said, self._said_at = text, time.monotonic()
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _sum_up(self) -> None:
        """What stays on the terminal of the steps of this start."""
        num_new = self._num_done - self._first_step
        if num_new <= 0:
            return
        spent = duration(time.monotonic() - self._entered_at)
        parts = [f"{num_new} step{'s' * (num_new > 1)} in {spent}"]
        for name, of in (("reward", reward_of), ("accuracy", accuracy_of)):
            first, last = of(self._first_metrics), of(self._metrics)
            if first is not None and last is not None:
                parts.append(f"{name} {figure(first)} -> {figure(last)}")
        if self._num_dropped:
            parts.append(f"{self._num_dropped} groups dropped")
        self._print("  ".join(parts))

    # ---------------------------------------------------------------------- what the run tells

    def remember(self, rows: Collection[Mapping[str, Any]]) -> None:
        """Rows of earlier starts, to draw."""
        for row in rows:
            if "progress/batch" in row:
                self._take_in(row)
            else:
                self._take_in_evaluation(row["step"], row)

    def expect_groups(
        self, groups_per_batch: int, finished: Collection[int], straggler: Straggler
    ) -> None:
        """How many groups a batch has, which are finished from an earlier start, and whether a
        batch waits for its own."""
        self._groups_per_batch, self._in_order = groups_per_batch, straggler == "wait"
        self._finished = set(finished)

    def group_started(self, group: int) -> None:
        """A group is being rolled out."""
        with self._lock:
            self._in_flight[group] = time.monotonic()

    def group_finished(self, group: int, *, is_dropped: bool) -> None:
        """A group is finished."""
        with self._lock:
            self._in_flight.pop(group, None)
            self._finished.add(group)
            self._num_dropped += is_dropped

    def working(self, what: str, num_done: int = 0, num_all: int = 1) -> None:
        """What the learner is at now; shown live only."""
        of_all = f" {num_done}/{num_all}" if num_all > 1 else ""
        with self._lock:
            if not self._doing.startswith(what):
                self._doing_since = time.monotonic()  # its time is that of what it is at
            self._doing = what + of_all

    def idle(self) -> None:
        """The learner waits for groups."""
        with self._lock:
            self._doing, self._doing_since = "", time.monotonic()

    def waiting(self, what: str) -> None:
        """What the run waits for, perhaps for long: live, or a line that stays."""
        if self._live is None:
            self._print(f"{what} ...")
        self.working(what)

    def begin(self) -> None:
        """The first step begins now; the time to go is judged from here."""
        self._began_at = time.monotonic()
        self.idle()

    def step_done(self, step: int, metrics: Mapping[str, Any]) -> None:
        """A step was committed."""
        num_done = step + 1
        with self._lock:
            self._num_done = num_done
            self._first_metrics = self._first_metrics or metrics
            self._take_in(metrics)
            # Whichever way batches are formed, one takes its groups from the lowest numbers.
            self._finished -= set(sorted(self._finished)[: self._groups_per_batch])
        self.idle()
        if self._live is None:
            facts = (
                headline(metrics),
                f"{metrics['sampling/tokens_per_second']:.0f} tokens/s",
                f"ETA {duration(self._seconds_left(num_done))}",
            )
            text = "  ".join(part for part in facts if part)
            self._print(f"step {num_done}/{self._num_steps}  {text}")

    def evaluated(self, step: int, metrics: Mapping[str, Any]) -> None:
        """An evaluation is there: one line for each data set that reports a reward."""
        with self._lock:
            self._take_in_evaluation(step, metrics)
        for prefix, name in _data_sets(metrics):
            self._print(f"after {step} steps, {name}: {headline(metrics, prefix)}")

    # --------------------------------------------------------------------------- what is drawn

    def _take_in(self, metrics: Mapping[str, Any]) -> None:
        self._metrics = metrics
        self._rewards.append(reward_of(metrics))
        self._accuracies.append(accuracy_of(metrics))

    def _take_in_evaluation(self, step: int, metrics: Mapping[str, Any]) -> None:
        for prefix, _ in _data_sets(metrics)[:1]:
            accuracy, reward = accuracy_of(metrics, prefix), reward_of(metrics, prefix)
            value = reward if accuracy is None else accuracy
            if value is not None:
                self._evaluations.append((step, value))

    def _draw(self) -> LivePicture:
        """The picture, once the last one can be drawn over; called by the thread that draws."""
        picture, size = self._picture(), self._console.size
        if size.width < self._drawn_width:
            # The terminal has broken each line of the last one into several.
            num_more = self._drawn_height * (math.ceil(self._drawn_width / size.width) - 1)
            up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
            self._console.control(Control(ControlType.CARRIAGE_RETURN, *up * num_more))
        self._drawn_width, self._drawn_height = picture.extent(size)
        return picture

    def _picture(self) -> LivePicture:
        now = time.monotonic()
        with self._lock:
            bound = (self._num_done + 1) * self._groups_per_batch
            num_waiting = len(self._finished)
            num_finished = min(num_waiting, self._groups_per_batch)
            if self._in_order:
                num_finished = sum(group < bound for group in self._finished)
            awaited = self._awaited()
            started = None if awaited is None else self._in_flight.get(awaited)
            is_new = self._num_done > self._first_step
            return LivePicture(
                title=self._title,
                num_done=self._num_done,
                num_steps=self._num_steps,
                seconds_a_step=self._seconds_a_step(self._num_done) if is_new else None,
                seconds_left=self._seconds_left(self._num_done) if is_new else None,
                rewards=tuple(self._rewards),
                accuracies=tuple(self._accuracies),
                metrics=self._metrics,
                evaluations=tuple(self._evaluations),
                doing=self._doing,
                doing_seconds=now - self._doing_since,
                awaited=awaited,
                awaited_seconds=None if started is None else now - started,
                num_in_flight=len(self._in_flight),
                num_finished=num_finished,
                groups_per_batch=self._groups_per_batch,
                num_ahead=num_waiting - num_finished,
                num_dropped=self._num_dropped,
                said=self._said,
                said_seconds=now - self._said_at,
            )

    def _awaited(self) -> int | None:
        """The group that the learner waits for: of its batch, the one that started first."""
        if not self._in_order or self._num_done >= self._num_steps:
            return min(self._in_flight, default=None)
        size = self._groups_per_batch
        batch = range(self._num_done * size, (self._num_done + 1) * size)
        missing = [group for group in batch if group not in self._finished]
        started = [group for group in missing if group in self._in_flight]
        return min(started or missing, default=None)

    def _seconds_a_step(self, num_done: int) -> float:
        return (time.monotonic() - self._began_at) / max(1, num_done - self._first_step)

    def _seconds_left(self, num_done: int) -> float:
        return self._seconds_a_step(num_done) * (self._num_steps - num_done)


def _data_sets(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(prefix of its metrics, name) of each data set that an evaluation measured."""
    prefixes = [key.removesuffix(REWARD) for key in metrics if key.endswith(REWARD)]
    return [(prefix, prefix.rstrip("/") or "evaluation") for prefix in prefixes]
