"""The picture of a run on a terminal: pure drawing, from figures to lines that fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.box import ROUNDED
from rich.console import (
    Console,
    ConsoleDimensions,
    ConsoleOptions,
    Group,
    RenderableType,
    RenderResult,
)
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["LivePicture", "accuracy_of", "duration", "reward_of"]

REWARD = "env/all/reward/total"
ACCURACY = "env/all/correct"
NONE = "-"
"""What stands for a figure that is not there."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_FRAME = 4
_LABEL = 11
"""Columns of the words on the left."""
_VALUE = 7
"""Columns of a figure, with a space after it."""
_COLUMN = 22
"""Columns of a figure with its name, in the second and third block."""
_WIDE = 64
"""Columns from which words need not be short."""
_LEAST_SPARK = 10
"""Steps in the narrowest curve for which further columns make room."""
_PARTS = (
    ("time/sampling", "waits for groups", "█", "cyan"),
    ("time/train", "trains", "▓", "green"),
    ("time/publish", "publishes", "░", "yellow"),
)
"""Of a step's time; told apart without colour too."""


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def reward_of(metrics: Mapping[str, Any], prefix: str = "") -> float | None:
    """The mean return, if there is one."""
    return metrics.get(prefix + REWARD)


def accuracy_of(metrics: Mapping[str, Any], prefix: str = "") -> float | None:
    """The share of right answers, where the environments report it."""
    return metrics.get(prefix + ACCURACY)


def figure(value: float | None) -> str:
    """Three decimals where they tell something, an exponent where they do not."""
    if value is None or not math.isfinite(value):
        return NONE if value is None else str(value)
    return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last values as bars, from the least of them to the greatest."""
    shown = [v for v in values if v is not None and math.isfinite(v)][-width:] if width > 0 else []
    if not shown:
        return ""
    least, most = min(shown), max(shown)
    if most == least:
        return _BLOCKS[3] * len(shown)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((value - least) / (most - least) * top)] for value in shown)


class LivePicture(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run at one moment. Drawn as wide as the terminal, and no higher."""

    title: str
    num_done: int
    """Steps done."""
    num_steps: int
    seconds_a_step: float | None
    """None before the first step of this start."""
    seconds_left: float | None
    rewards: tuple[float | None, ...]
    """Of the last steps, the newest last."""
    accuracies: tuple[float | None, ...]
    metrics: Mapping[str, Any]
    """Of the last step; empty before the first."""
    evaluations: tuple[tuple[int, float], ...]
    """(steps done, accuracy or else reward) on held-out problems, in order."""
    doing: str
    """What the learner does; empty while it waits for groups."""
    doing_seconds: float
    awaited: int | None
    """The group that the learner waits for."""
    awaited_seconds: float | None
    """How long that group has been under way; None: it has not started."""
    num_in_flight: int
    num_finished: int
    """Of the batch that trains next."""
    groups_per_batch: int
    num_ahead: int
    """Finished groups of later batches."""
    num_dropped: int
    """In this start of the run."""
    said: str
    """The last line that was said; empty if none was."""
    said_seconds: float
    """How long ago."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = _inner(options.max_width)
        title = Text(_printable(self.title), overflow="ellipsis", no_wrap=True)
        title.truncate(max(0, width - 4), overflow="ellipsis")
        lines = Group(*self._lines(width, options.size.height))
        yield Panel(
            lines,
            box=ROUNDED,
            title=title,
            title_align="left",
            border_style="dim",
            width=width + _FRAME,
        )

    def extent(self, size: ConsoleDimensions) -> tuple[int, int]:
        """(columns, rows) that it takes of a terminal of this size."""
        width = _inner(size.width)
        return width + _FRAME, len(self._lines(width, size.height)) + 2

    def _lines(self, width: int, height: int) -> Sequence[RenderableType]:
        """Those for which there is room; on a low terminal the last go first."""
        lines = [
            self._steps(width),
            *self._figures(width),
            *self._times(width),
            self._learner(),
            self._groups(width),
            *self._last_said(),
        ]
        return lines[: max(1, height - 3)]

    def _steps(self, width: int) -> Table:
        facts = [f"{self.num_done / max(1, self.num_steps):.0%}"]
        if self.seconds_a_step is not None and width >= 50:
            facts.append(f"{self.seconds_a_step:.1f} s a step")
        if self.seconds_left is not None and width >= 34:
            facts.append(f"ETA {duration(self.seconds_left)}")
        row = Table.grid(padding=(0, 2, 0, 0), expand=True)
        bar = ProgressBar(total=max(1, self.num_steps), completed=self.num_done)
        steps = Text(f"step {self.num_done}/{self.num_steps}", style="bold", no_wrap=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        row.add_row(steps, bar, Text("  ".join(facts), no_wrap=True))
        return row

    def _figures(self, width: int) -> list[Text]:
        """Three rows of as many columns as there is room for."""
        least = _LABEL + _VALUE + _LEAST_SPARK + 2
        num_others = max(0, min(2, (width - least) // _COLUMN))
        spark = max(0, min(30, width - least - num_others * _COLUMN + _LEAST_SPARK))
        age = f"{self._figure('async/staleness_mean')} / {self._whole('async/staleness_max')}"
        columns = [
            [
                ("reward", self._with_spark(reward_of(self.metrics), self.rewards, spark)),
                ("accuracy", self._with_spark(accuracy_of(self.metrics), self.accuracies, spark)),
                ("evaluation", self._evaluation(spark)),
            ],
            [
                ("KL", self._figure("optim/kl_sample_train_v2")),
                ("entropy", self._figure("optim/entropy")),
                ("ratio p99", self._figure("optim/ratio_p99")),
            ],
            [
                ("tokens/s", self._whole("sampling/tokens_per_second")),
                ("useful", self._share("useful_token_fraction")),
                ("age", age),
            ],
        ]
        first = _LABEL + _VALUE + spark + 2
        return [_row([column[i] for column in columns[: 1 + num_others]], first) for i in range(3)]

    def _with_spark(self, value: float | None, values: Sequence[float | None], width: int) -> str:
        return f"{figure(value):<{_VALUE}}{sparkline(values, width)}"

    def _evaluation(self, spark: int) -> str:
        if not self.evaluations:
            return NONE
        (_, first), (step, last) = self.evaluations[0], self.evaluations[-1]
        if len(self.evaluations) == 1:
            return f"{figure(last)}"
        change = f"from {figure(first)}"
        when = f"{change}, at {step}"
        return f"{figure(last):<{_VALUE}}{when if len(when) <= spark else change[: max(0, spark)]}"

    def _times(self, width: int) -> list[Text]:
        """Where the time of the last step went: a bar, and what it is made of."""
        total = self.metrics.get("time/total") or 0.0
        if not 0 < total < math.inf:
            return []
        shares = [min(1.0, max(0.0, self.metrics.get(name, 0.0) / total)) for name, *_ in _PARTS]
        length = max(4, min(60, width - _LABEL - 8))
        bar, legend = _label("last step"), Text(" " * _LABEL, no_wrap=True, overflow="ellipsis")
        at = 0.0
        for share, (_, name, glyph, style) in zip(shares, _PARTS, strict=True):
            cells = round(min(1.0, at + share) * length) - round(min(1.0, at) * length)
            at += share
            bar.append(glyph * cells, style=style)
            legend.append(glyph, style=style)
            legend.append(f" {name if width >= _WIDE else name.split()[0]} {share:.0%}  ")
        bar.append(f"  {total:.1f} s")
        return [bar, legend]

    def _learner(self) -> Text:
        if self.doing:
            return _label("learner").append(
                f"{_printable(self.doing)}, {duration(self.doing_seconds)}"
            )
        if self.awaited is None:
            return _label("learner").append(f"waits, {duration(self.doing_seconds)}")
        under_way = self.awaited_seconds
        since = "which has not started" if under_way is None else f"{duration(under_way)} under way"
        return _label("learner").append(f"waits for group {self.awaited}, {since}")

    def _groups(self, width: int) -> Text:
        where = " of this batch" if width >= _WIDE else ""
        text = _label("groups").append(f"{self.num_finished}/{self.groups_per_batch}{where} done")
        if self.num_dropped:
            text.append(f", {self.num_dropped} dropped", style="red")
        text.append(f", {self.num_in_flight} in flight")
        return text.append(f", {self.num_ahead} ahead") if self.num_ahead else text

    def _last_said(self) -> list[Text]:
        if not self.said:
            return []
        ago = f"{duration(self.said_seconds)} ago: "
        return [_label("said").append(ago).append(_printable(self.said), style="yellow")]

    def _figure(self, name: str) -> str:
        return figure(self.metrics.get(name))

    def _whole(self, name: str) -> str:
        value = self.metrics.get(name)
        return NONE if value is None else f"{value:.0f}"

    def _share(self, name: str) -> str:
        value = self.metrics.get(name)
        return NONE if value is None else f"{value:.1%}"


def _inner(width: int) -> int:
    """Columns between the borders. Two are left free for the ^C of Ctrl-C, which would else begin a
    line of its own."""
    return max(1, width - _FRAME - 2)


def _printable(text: str) -> str:
    """On one line, without what moves the cursor: environments' errors are among it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _label(name: str) -> Text:
    """The beginning of a line."""
    text = Text(no_wrap=True, overflow="ellipsis")
    return text.append(f"{name:<{_LABEL}}", style="dim")


def _row(cells: Sequence[tuple[str, str]], first: int) -> Text:
    """Figures beside each other, under those of the other rows."""
    (name, value), *others = cells
    text = _label(name).append(f"{value:<{first - _LABEL}}")
    for name, value in others:
        text.append(f"{name:<10}", style="dim").append(f"{value:<{_COLUMN - 10}}")
    return text
