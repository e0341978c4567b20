"""`metrics.jsonl`, and what else gets its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from tinker_rl.rl.files import JsonLines
from tinker_rl.rl.loggers.logger import LoggedRun, Logger
from tinker_rl.rl.loggers.sender import Sender
from tinker_rl.rl.loggers.sent import SentRows

__all__ = ["FINISH_SECONDS", "RowLog"]

FINISH_SECONDS = 30.0
"""How long the end of a run waits for its loggers."""
_QUIET_SECONDS = 2.0
"""How long it waits without a word."""


class RowLog:
    """Writes the rows of a run into its folder, and hands them to loggers.

    A row is in the file before a logger hears of it. What a logger does not have of the rows in the
    file, from a kill or since it was not asked for earlier, it gets at the start.

    Args:
        rows: The file, as the journal says it is to be.
        loggers: By name.
        project: The recipe's name.
        config: Options of the run as JSON has them.
        say: Shows a line to the user; called from any thread.
    """

    def __init__(
        self,
        rows: JsonLines,
        loggers: Mapping[str, Logger],
        project: str,
        config: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._rows = rows
        self._say = say
        self._senders: list[Sender] = []
        self.is_closing = False
        """Whether the run is over, and only its loggers are not done."""
        if loggers:
            self._start(rows.path.parent, loggers, project, config)

    def _start(
        self,
        log_dir: Path,
        loggers: Mapping[str, Logger],
        project: str,
        config: Mapping[str, Any],
    ) -> None:
        sent, rows = SentRows(log_dir), self._rows.read()
        for name, logger in loggers.items():
            run = LoggedRun(
                id=sent.id,
                project=project,
                log_dir=log_dir,
                config=config,
                cut_from=sent.of(name).cut_from(rows),
            )
            sender = Sender(name, logger, sent, self._say)
            sender.start(run, rows)
            self._senders.append(sender)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row. Waits for no logger.

        Raises:
            DataError: if `metrics.jsonl` cannot be written to.
        """
        self._rows.append(row)
        for sender in self._senders:
            sender.put(row)

    async def aclose(self) -> None:
        """Wait until the loggers have finished, `FINISH_SECONDS` at most. Cancelled, it does not
        wait; their threads go on as long as the program does."""
        self.is_closing = True
        for sender in self._senders:
            sender.close()
        if self._senders:
            await anyio.to_thread.run_sync(self._join, abandon_on_cancel=True)

    def _join(self) -> None:
        began = time.monotonic()
        for sender in self._senders:
            sender.wait(began + _QUIET_SECONDS - time.monotonic())
        late = [sender.name for sender in self._senders if sender.is_alive]
        if late:
            self._say(
                f"waiting for {', '.join(late)}, {FINISH_SECONDS:.0f} s at most (Ctrl-C: no longer)"
            )
        for sender in self._senders:
            sender.wait(began + FINISH_SECONDS - time.monotonic())
            sender.sum_up()
