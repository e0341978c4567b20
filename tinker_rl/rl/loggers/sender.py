"""One logger's own thread, so that it never stops or slows the run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinker_rl.errors import DataError
from tinker_rl.rl.loggers.logger import LoggedRun, Logger
from tinker_rl.rl.loggers.sent import SentRows

__all__ = ["MAX_WAITING_ROWS", "Sender"]

MAX_WAITING_ROWS = 1000
"""Rows that wait for a logger; of later ones it gets none."""
SAVE_SECONDS = 1.0
"""Least time between two notes of what a logger has: a long run is handed over at once."""


class Sender:
    """Feeds one logger.

    Args:
        name: Of the logger, in messages and in the run's folder.
        logger: Is called from the sender's thread only.
        sent: What the logger has already.
        say: Shows a line to the user; called from any thread.
    """

    def __init__(
        self, name: str, logger: Logger, sent: SentRows, say: Callable[[str], None]
    ) -> None:
        self.name = name
        self._logger = logger
        self._sent = sent
        self._say_now = say
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._said: set[str] = set()
        self._num_missed = 0
        self._saved_at = 0.0
        self._thread: threading.Thread | None = None

    def start(self, run: LoggedRun, rows: Sequence[Mapping[str, Any]]) -> None:
        """Start the thread; `rows` are those of the run so far, of which it logs what is missing.

        The thread is a daemon: a logger that hangs does not keep the program from ending.
        """
        self._thread = threading.Thread(
            target=self._serve, args=(run, rows), name=f"logger {self.name}", daemon=True
        )
        self._thread.start()

    def put(self, row: Mapping[str, Any]) -> None:
        """Hand in a row. Never waits: with too many waiting, the row is left out."""
        with self._changed:
            if len(self._waiting) < MAX_WAITING_ROWS:
                self._waiting.append(row)
                self._changed.notify()
                return
            self._num_missed += 1
        self._say(
            "slow",
            f"does not keep up: {MAX_WAITING_ROWS} rows wait for it, and later ones are left out "
            "there until it has caught up. metrics.jsonl has them all.",
        )

    def close(self) -> None:
        """Let the logger finish once it has what waits."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()

    @property
    def is_alive(self) -> bool:
        """Whether it was started and has not finished."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the logger, at most so long."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))

    def sum_up(self) -> None:
        """Say what the logger has not got."""
        num_missed = self._num_missed + len(self._waiting)
        if self.is_alive:
            self._say("hangs", f"was not done in time, and {num_missed} rows may be missing there.")
        elif num_missed and "start" not in self._said:
            self._say("missed", f"{num_missed} rows are missing there. metrics.jsonl has them all.")

    def _serve(self, run: LoggedRun, rows: Sequence[Mapping[str, Any]]) -> None:
        self._save()  # the id, before the logger has it: a kill must leave no run that none finds
        try:
            took_back = bool(self._logger.start(run))
        except Exception as error:
            self._say(
                "start",
                f"could not start, and the run goes on without it. {_shown(error)} metrics.jsonl "
                "has every row, and the next start of the run logs those that are missing.",
            )
            self._drop_all()
            return
        self._take_back(run, took_back)
        for row in rows:
            self._log(row)
        self._save()
        while (row := self._next()) is not None:
            self._log(row)
            if not self._waiting:
                self._save()
        try:
            self._logger.finish()
        except Exception as error:
            self._say("finish", f"could not be closed. {_shown(error)}")

    def _take_back(self, run: LoggedRun, took_back: bool) -> None:
        if run.cut_from is None:
            return
        sent = self._sent.of(self.name)
        if took_back:
            self._sent.note(self.name, sent.without(run.cut_from))
            return
        self._say(
            "cut",
            f"has steps {run.cut_from} to {sent.step}, which the run makes again, and cannot take "
            "them back: it keeps the old ones, and goes on after them.",
        )

    def _next(self) -> Mapping[str, Any] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            return self._waiting.popleft() if self._waiting else None

    def _log(self, row: Mapping[str, Any]) -> None:
        sent = self._sent.of(self.name)
        if sent.has(row):
            return
        metrics = {
            name: float(value)
            for name, value in row.items()
            if name != "step" and isinstance(value, int | float)
        }
        try:
            self._logger.log(row["step"], metrics)
        except Exception as error:
            with self._changed:
                self._num_missed += 1
            self._say(
                "log",
                f"a row could not be logged, and the run goes on. {_shown(error)} Later rows are "
                "tried all the same; metrics.jsonl has them all.",
            )
            return
        self._sent.note(self.name, sent.after(row))
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        try:
            self._sent.save()
        except DataError as error:
            self._say(
                "save",
                f"what it has got could not be written down, so the next start may log rows twice. "
                f"{_shown(error)}",
            )

    def _drop_all(self) -> None:
        while self._next() is not None:
            pass

    def _say(self, kind: str, text: str) -> None:
        """Each kind of message once."""
        with self._changed:
            if kind in self._said:
                return
            self._said.add(kind)
        self._say_now(f"{self.name}: {text}")


def _shown(error: Exception) -> str:
    """On one line, with a full stop."""
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text}".rstrip(".") + "."
