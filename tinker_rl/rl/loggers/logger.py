"""What shows the metrics of a run has to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

__all__ = ["LoggedRun", "Logger"]


class LoggedRun(msgspec.Struct, frozen=True, kw_only=True):
    """The run whose metrics come, as a logger is told at every start of it."""

    id: str
    """Letters, digits, `_`, `-` and `.`: the name of the log folder and a few random digits.
    The same at every start, so that a logger finds what it has of the run."""
    project: str
    """Runs that belong together: the recipe's name."""
    log_dir: Path
    """The run's folder; it exists."""
    config: Mapping[str, Any]
    """Options of the run as JSON has them, nested."""
    cut_from: int | None
    """Steps from this one on were logged, and were cut since: they are made again. None: none."""


@runtime_checkable
class Logger(Protocol):
    """Shows metrics. Called from one thread of its own, never from the run's: it may take its time.

    What it raises is said once, and the run goes on without the row.
    """

    def start(self, run: LoggedRun) -> bool | None:
        """Begin, or go on with what an earlier start of the run logged.

        Returns:
            Whether what was logged from `run.cut_from` on is forgotten. If not, these steps are not
            logged again.
        """
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a step, or of an evaluation of the version with that number.

        Steps ascend, and so do evaluations; an evaluation comes late, when it is done.
        """
        ...

    def finish(self) -> None:
        """Flush and close: the run ended, well or not. Called once if `start` returned."""
        ...
