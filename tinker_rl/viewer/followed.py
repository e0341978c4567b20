"""A journal that another process writes, read as it grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tinker_rl.errors import JournalError
from tinker_rl.rl.journal import Journal
from tinker_rl.rl.journal.codec import Head
from tinker_rl.rl.journal.frames import FILE_HEADER, damage, num_written_bytes, read_frame, scan

__all__ = ["FollowedJournal"]


class FollowedJournal(Journal):
    """`Journal.read` that also sees what is appended later.

    A record that is being written is not there yet. Damage ends the reading: what came before it
    stays, and `problem` says what is wrong.
    """

    problem: str | None = None
    num_torn_bytes: int = 0
    """Bytes after the last whole record, at the last look."""

    def __init__(self, path: Path, fd: int, *, is_read_only: bool) -> None:
        super().__init__(path, fd, is_read_only=is_read_only)
        self._news: list[Head] = []

    def follow(self) -> Sequence[Head]:
        """Take in the whole records since the last look, and give their small parts, in order."""
        self._news = []
        self.problem = None
        try:
            self._follow()
        except JournalError as error:
            self.problem = str(error)
        self.num_torn_bytes = os.fstat(self._opened()).st_size - self._end
        return self._news

    def is_replaced(self) -> bool:
        """Whether the path has another file now, or this one was cut behind what was read."""
        try:
            now, ours = os.stat(self.path), os.fstat(self._opened())
        except OSError:
            return True
        return (now.st_ino, now.st_dev) != (ours.st_ino, ours.st_dev) or now.st_size < self._end

    def committed_steps(self) -> set[int]:
        """Steps of the commits that hold."""
        with self._lock:
            return set(self._commits)

    def has_group(self, group: int) -> bool:
        """Whether a group is finished."""
        return self._offset_of(group) is not None

    def has_trained_records(self) -> bool:
        """Whether what the learner said is there, of any step."""
        with self._lock:
            return bool(self._trained)

    def step_of(self, group: int) -> int | None:
        """The step that trained a group; None if none did."""
        with self._lock:
            return self._steps.get(group)

    def _load(self) -> None:
        """Nothing is read before `follow`."""

    def _add(self, record: Head, offset: int) -> None:
        super()._add(record, offset)
        self._news.append(record)

    def _follow(self) -> None:
        fd = self._opened()
        written = num_written_bytes(fd)
        if not self._end:
            with suppress(StopIteration):
                next(iter(scan(fd, self.path)))  # raises for a file of another format
            if written < len(FILE_HEADER):
                return
            self._end = len(FILE_HEADER)
        while self._end < written:
            try:
                frame = read_frame(fd, self._end, written)
            except ValueError as error:
                raise damage(self.path, self._end, written, str(error)) from error
            if frame is None:
                return
            self._take(frame)
