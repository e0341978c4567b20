"""Where the time of a run goes, span by span, in `timeline.jsonl`: for people to look at.

One JSON object a line: `lane`, `name`, `at` (seconds since the epoch, when it began), `seconds`,
and facts. Nothing reads the file to go on, so it is written without waiting for the disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self, TypeAlias

import msgspec

from tinker_rl.rl.interrupts import only_error

__all__ = ["NO_TIMELINE", "TIMELINE_FILE", "Lane", "Timeline"]

TIMELINE_FILE = "timeline.jsonl"

Lane: TypeAlias = Literal["run", "admission", "rollout", "learner", "evaluation"]
"""Whose time a span is."""

SHORTEST_WAIT = 1e-3
"""Seconds; shorter waits are not worth a line."""
_MOST_CHARACTERS = 2000
"""Of an error's text."""
_FLUSH_BYTES = 1 << 16
_FLUSH_SECONDS = 1.0

logger = logging.getLogger(__name__)
_encoder = msgspec.json.Encoder()


class Timeline:
    """Writes spans down, a second or 64 KiB at a time. For one event loop.

    A disk that is full ends the record, not the run. Use it as a context manager, so that the end
    is written too; a kill loses the last second, and leaves a torn line at most.

    Args:
        path: The file, which is appended to; None: nothing is written.
        now: Gives the time, in seconds, from any beginning.
    """

    def __init__(self, path: Path | None, now: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._now = now
        self._epoch = time.time() - now()
        self._lines: list[bytes] = []
        self._num_bytes = 0
        self._flushed_at = now()

    def __enter__(self) -> Self:
        if self._path is not None:
            self._guarded(self._open)
        self.mark("start")
        self.flush()  # a run that is killed while it loads has begun all the same
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.mark("end", **_reason(error))
        self.flush()
        self.close()

    def now(self) -> float:
        """The time that `span` counts from."""
        return self._now()

    def span(
        self, lane: Lane, name: str, began: float, ended: float | None = None, **facts: Any
    ) -> None:
        """Write down what went on from `began` to `ended`, by default until now."""
        if self._file is None:
            return
        ended = self._now() if ended is None else ended
        span = {"lane": lane, "name": name, "at": self._epoch + began, "seconds": ended - began}
        line = _encoder.encode(span | facts) + b"\n"
        self._lines.append(line)
        self._num_bytes += len(line)
        is_due = self._now() - self._flushed_at >= _FLUSH_SECONDS
        if is_due or self._num_bytes >= _FLUSH_BYTES:
            self.flush()

    @contextmanager
    def spanning(self, lane: Lane, name: str, **facts: Any) -> Generator[None]:
        """Write down the block as a span, however it ends."""
        began = self._now()
        try:
            yield
        finally:
            self.span(lane, name, began, **facts)

    @contextmanager
    def waiting(self, lane: Lane, name: str, **facts: Any) -> Generator[None]:
        """Write down the block as a span, if it took time worth telling."""
        began = self._now()
        try:
            yield
        finally:
            if self._now() - began >= SHORTEST_WAIT:
                self.span(lane, name, began, **facts)

    def mark(self, name: str, **facts: Any) -> None:
        """Write down that something happened now to the whole run."""
        now = self._now()
        self.span("run", name, now, now, **facts)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._flushed_at = self._now()
        lines, self._lines, self._num_bytes = self._lines, [], 0
        if lines and self._file is not None:
            file = self._file
            self._guarded(lambda: file.write(b"".join(lines)))

    def close(self) -> None:
        """Give back the file, as a kill would: without a word. What comes later is not written."""
        if self._file is not None:
            self._guarded(self._file.close)
        self._file = None

    def _open(self) -> None:
        assert self._path is not None
        file = self._path.open("ab", buffering=0)
        if file.tell():
            file.write(b"\n")  # ends a line that a kill tore; an empty one is none
        self._file = file

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
            self._file = None
            logger.warning(
                "%s: the timeline ends here, the run goes on: %s. Make room; the next start of "
                "the run records again.",
                self._path,
                error.strerror or error,
            )


def _reason(error: BaseException | None) -> dict[str, Any]:
    """Why it ends, where that is not that all is done."""
    if isinstance(error, BaseExceptionGroup):
        error = only_error(error)
    if error is None:
        return {}
    if not isinstance(error, Exception):  # cancelled, in the words of the event loop
        return {"interrupted": True}
    return {"error": f"{type(error).__name__}: {error}"[:_MOST_CHARACTERS]}


NO_TIMELINE = Timeline(None)
"""One that nobody looks at."""
