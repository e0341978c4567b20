"""What each logger has of a run, kept in the run's folder from one start to the next."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tinker_rl.rl.files import write_text

__all__ = ["LOGGERS_FILE", "Sent", "SentRows", "is_evaluation"]

LOGGERS_FILE = "loggers.json"


def is_evaluation(row: Mapping[str, Any]) -> bool:
    """Whether a row of `metrics.jsonl` is of an evaluation; else it is of a step."""
    return "progress/batch" not in row


class Sent(msgspec.Struct, frozen=True):
    """How far a logger is; both kinds of rows come in ascending order, each for itself."""

    step: int = -1
    """The last step that it has; -1: none."""
    evaluation: int = -1
    """The last version whose evaluation it has."""

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether the row was logged."""
        return row["step"] <= (self.evaluation if is_evaluation(row) else self.step)

    def after(self, row: Mapping[str, Any]) -> Sent:
        """When the row is logged, too."""
        kind = "evaluation" if is_evaluation(row) else "step"
        return msgspec.structs.replace(self, **{kind: row["step"]})

    def cut_from(self, rows: Iterable[Mapping[str, Any]]) -> int | None:
        """The first step that was logged and is none of the run's rows any more, if there is."""
        last = max((row["step"] for row in rows if not is_evaluation(row)), default=-1)
        return last + 1 if last < self.step else None

    def without(self, cut_from: int) -> Sent:
        """When the logger has forgotten that step and later ones."""
        return Sent(min(self.step, cut_from - 1), min(self.evaluation, cut_from - 1))


class _File(msgspec.Struct):
    """What `loggers.json` holds."""

    id: str
    sent: dict[str, Sent] = {}


class SentRows:
    """`loggers.json`, for the threads of all loggers.

    A kill before a row that was logged is written down has it logged twice, never missed. A file
    that cannot be read counts as none.
    """

    def __init__(self, log_dir: Path) -> None:
        self._path = log_dir / LOGGERS_FILE
        self._lock = threading.Lock()
        self._file = self._read(log_dir)

    @property
    def id(self) -> str:
        """Of the run, for all loggers."""
        return self._file.id

    def of(self, name: str) -> Sent:
        """How far a logger is."""
        return self._file.sent.get(name, Sent())

    def note(self, name: str, sent: Sent) -> None:
        """Remember how far a logger is."""
        with self._lock:
            self._file.sent[name] = sent

    def save(self) -> None:
        """Write it down.

        Raises:
            DataError: if the disk is full or the folder cannot be written to.
        """
        with self._lock:
            write_text(self._path, msgspec.json.encode(self._file).decode() + "\n")

    def _read(self, log_dir: Path) -> _File:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, msgspec.DecodeError):
            name = re.sub(r"[^\w.-]+", "-", log_dir.resolve().name, flags=re.ASCII)[:64] or "run"
            return _File(f"{name}-{secrets.token_hex(3)}")
