"""What a run shows while it works: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.text import Text

__all__ = ["RunProgress", "headline"]

REWARD = "env/all/reward/total"
ACCURACY = "env/all/correct"


def headline(metrics: Mapping[str, Any], prefix: str = "") -> str:
    """Reward and, where the environments report it, accuracy, in a few words."""
    parts = [
        f"{name} {metrics[prefix + key]:.3f}"
        for name, key in (("reward", REWARD), ("accuracy", ACCURACY))
        if metrics.get(prefix + key) is not None
    ]
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Facts(ProgressColumn):
    """What is known of a task, or else for how long it has gone on."""

    def render(self, task: Task) -> Text:
        """The facts, or the time."""
        return Text(task.fields["facts"] or duration(task.elapsed or 0.0))


class RunProgress:
    """Shows a run: steps, rollouts of the present step, reward, accuracy, tokens/s, time to go.

    Args:
        num_steps: Steps of the whole run.
        first_step: Step that this start begins with.
        console: Where to show it; live if it is a terminal.
    """

    def __init__(self, num_steps: int, first_step: int, console: Console) -> None:
        self._num_steps = num_steps
        self._first_step = first_step
        self._console = console
        self._began_at = time.monotonic()
        self._live: Progress | None = None
        self._doing = ""
        if console.is_terminal:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                _Facts(),
                console=console,
                transient=True,
            )
            self._steps = self._live.add_task(
                "steps", total=num_steps, completed=first_step, facts=""
            )
            self._now = self._live.add_task("starting", total=None, facts="")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def working(self, what: str, num_done: int, num_all: int, facts: str = "") -> None:
        """What the run is at now; shown live only."""
        if self._live is None:
            return
        if what != self._doing:
            self._doing = what
            self._live.reset(self._now)  # its time is that of what it is at
        self._live.update(
            self._now, description=what, completed=num_done, total=num_all, facts=facts
        )

    def waiting(self, what: str) -> None:
        """What the run waits for, perhaps for long: live, or a line that stays."""
        if self._live is None:
            self.say(f"{what} ...")
        self.working(what, 0, 1)

    def begin(self) -> None:
        """The first step begins now; the time to go is judged from here."""
        self._began_at = time.monotonic()

    def step_done(self, step: int, metrics: Mapping[str, Any]) -> None:
        """A step was committed."""
        num_done = step + 1
        facts = "  ".join(
            part
            for part in (
                headline(metrics),
                f"{metrics['sampling/tokens_per_second']:.0f} tokens/s",
                f"ETA {duration(self._seconds_left(num_done))}",
            )
            if part
        )
        if self._live is not None:
            self._live.update(self._steps, completed=num_done, facts=facts)
        else:
            self.say(f"step {num_done}/{self._num_steps}  {facts}")

    def evaluated(self, step: int, metrics: Mapping[str, Any]) -> None:
        """An evaluation is there: one line for each data set that reports a reward."""
        for key in metrics:
            if key.endswith(REWARD):
                prefix = key.removesuffix(REWARD)
                name = prefix.rstrip("/") or "evaluation"
                self.say(f"after {step} steps, {name}: {headline(metrics, prefix)}")

    def _seconds_left(self, num_done: int) -> float:
        elapsed = time.monotonic() - self._began_at
        return elapsed / max(1, num_done - self._first_step) * (self._num_steps - num_done)
