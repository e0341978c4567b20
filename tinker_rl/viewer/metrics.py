"""Rows of `metrics.jsonl` as series: of training steps, and of evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinker_rl.viewer.plain import number, text

__all__ = ["MetricRows", "is_training_row"]

_NOT_SERIES = frozenset({"step", "progress/batch"})
BATCH = "progress/batch"


def is_training_row(row: Mapping[str, Any], is_rl: bool) -> bool:
    """Whether a row is of a training step; of other programs than the RL loop's, every one is."""
    return BATCH in row or not (is_rl or any(str(name).startswith("test/") for name in row))


class MetricRows:
    """One row a step. A row of a step that is there takes its place.

    Args:
        is_ordered: Whether a row voids all of later steps: a run that was started again behind
            them.
    """

    num_voided: int = 0

    def __init__(self, *, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._rows: dict[float, dict[str, float]] = {}
        self.last_step: float | None = None
        """The highest step so far."""
        self.last: Mapping[str, Any] = {}
        """The row that came last, as it was."""

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in a row; one without a step counts on."""
        last = self.last_step
        step = number(row.get("step"))
        step = (0 if last is None else last + 1) if step is None else step
        if self._is_ordered and last is not None and step <= last:
            kept = {s: values for s, values in self._rows.items() if s < step}
            self.num_voided += len(self._rows) - len(kept)
            self._rows = kept
        values = {
            text(name): found
            for name, value in row.items()
            if name not in _NOT_SERIES and (found := number(value)) is not None
        }
        self._rows[step] = values
        self.last_step = step if self._is_ordered or last is None else max(step, last)
        self.last = row

    def columns(self) -> dict[str, Any]:
        """`{"steps": [...], "series": {name: [number or null, ...]}}`, by step."""
        steps = sorted(self._rows)
        names = dict.fromkeys(name for step in steps for name in self._rows[step])
        series = {name: [self._rows[step].get(name) for step in steps] for name in names}
        return {"steps": steps, "series": series}
