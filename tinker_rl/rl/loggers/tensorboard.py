"""TensorBoard's event files.

Written with tensorboardX: `torch.utils.tensorboard` asks for all of TensorBoard, a web server among
it, to write a file, and either's `SummaryWriter` writes in a thread of its own, from which a full
disk never gets back to the caller.
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinker_rl.rl.loggers.flat import flat
from tinker_rl.rl.loggers.logger import LoggedRun

__all__ = ["TENSORBOARD_FOLDER", "TensorBoardLogger"]

TENSORBOARD_FOLDER = "tensorboard"
"""In the run's folder."""

_HEADLINES = dict.fromkeys(("env/all/reward/total", "env/all/correct", "test/env/all/correct"))
"""Metrics beside the hyperparameters of several runs."""


class TensorBoardLogger:
    """Writes `tensorboard/` in the run's folder: one more event file at every start."""

    def __init__(self) -> None:
        self._folder = Path()
        self._file: Any = None
        """None where the last one could not be written to."""

    def start(self, run: LoggedRun) -> bool:
        """Open a file, and tell TensorBoard which steps of the earlier ones it is to forget."""
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore
        from tensorboardX.summary import hparams, text

        self._folder = run.log_dir / TENSORBOARD_FOLDER
        self._folder.mkdir(exist_ok=True)
        cut = [] if run.cut_from is None else [SessionLog(status=SessionLog.START)]
        shown = json.dumps(dict(run.config), indent=4).replace("\n", "\n    ")
        self._write(
            *({"step": run.cut_from, "session_log": log} for log in cut),
            *({"summary": s} for s in hparams(_hyperparameters(run.config), _HEADLINES)),
            {"step": 0, "summary": text("config", f"    {shown}")},
        )
        return True

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the scalars, and flush them."""
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write({"step": step, "summary": Summary(value=values)})

    def finish(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, *events: Mapping[str, Any]) -> None:
        """Write and flush. Where a write fails, the next begins a new file: what follows a torn
        record is never read."""
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

        try:
            if self._file is None:
                self._file = _open(self._folder)
                self._file.write(Event(file_version="brain.Event:2").SerializeToString())
            for fields in events:
                self._file.write(Event(wall_time=time.time(), **fields).SerializeToString())
            self._file.flush()
        except OSError:
            self._give_up_file()
            raise

    def _give_up_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):
            file.close()
        path = Path(file.path)
        with suppress(OSError):
            if path.stat().st_size == 0:  # a full disk leaves one at every row
                path.unlink()


def _open(folder: Path) -> Any:
    """A new event file; TensorBoard reads them in the order of their names."""
    from tensorboardX.record_writer import RecordWriter

    number = len(list(folder.iterdir()))  # two may be of the same second
    name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{number:04}"
    return RecordWriter(str(folder / name))


def _hyperparameters(config: Mapping[str, Any]) -> dict[str, str | bool | float]:
    """Those that TensorBoard can show in a table."""
    return {
        name: value
        for name, value in flat(config).items()
        if isinstance(value, str | bool | int)
        or (isinstance(value, float) and math.isfinite(value))
    }
