"""trackio: a local database, or a Hugging Face Space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinker_rl.rl.loggers.logger import LoggedRun

__all__ = ["TrackioLogger"]


class TrackioLogger:
    """Logs into trackio's own folder; every start of a run goes on in the same one.

    trackio's own settings hold, as environment variables: `TRACKIO_DIR`, `TRACKIO_SPACE_ID`.
    """

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, run: LoggedRun) -> bool:
        """Join the run, or make it."""
        import trackio

        self._run = trackio.init(
            project=run.project,
            name=run.id,
            config=dict(run.config),
            resume="allow",
            embed=False,
        )
        return False  # a step that was logged cannot be taken back

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the row to trackio's own thread."""
        self._run.log(dict(metrics), step=step)

    def finish(self) -> None:
        """Wait until all is written."""
        self._run.finish()
