"""Files of one JSON object a line, read as another process appends to them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["FollowedLines", "NewLines"]

_BLOCK = 1 << 20


class NewLines(msgspec.Struct, frozen=True):
    """What a look at a file found."""

    rows: list[dict[str, Any]]
    """Objects that were added, in order."""
    is_anew: bool = False
    """Whether the file was replaced or cut since the last look, so that `rows` are all of it."""


class FollowedLines:
    """A file of JSON lines, each of which is read once.

    A line without its end is not there yet. What is no JSON object is passed over and counted.
    """

    num_bad: int = 0
    """Lines that could not be read."""
    problem: str | None = None
    """Why the file could not be read at the last look, if it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._offset = 0
        """Where the next line begins."""

    @property
    def exists(self) -> bool:
        """Whether the file was there to be read at the last look."""
        return self._fd is not None and self.problem is None

    def follow(self) -> NewLines:
        """The objects since the last look; none where there is no file."""
        is_anew = self._is_replaced()
        if is_anew:
            self.close()
        self.problem = None
        rows: list[dict[str, Any]] = []
        try:
            if self._fd is None:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            rows = self._read(self._fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.problem = error.strerror or str(error)
        return NewLines(rows, is_anew)

    def close(self) -> None:
        """Give back the file; the next look starts at its beginning."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._offset, self.num_bad = None, 0, 0

    def _is_replaced(self) -> bool:
        """Whether the path has another file now, or this one was cut behind what was read."""
        if self._fd is None:
            return False
        try:
            now, ours = os.stat(self.path), os.fstat(self._fd)
        except OSError:
            return True
        # The file is held open, so that its number cannot have been given to another.
        return (now.st_ino, now.st_dev) != (ours.st_ino, ours.st_dev) or now.st_size < self._offset

    def _read(self, fd: int) -> list[dict[str, Any]]:
        blocks: list[bytes] = []
        end = self._offset
        while block := os.pread(fd, _BLOCK, end):
            blocks.append(block)
            end += len(block)
        whole, newline, _ = b"".join(blocks).rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        lines = (line for line in whole.split(b"\n") if line.strip())
        return [row for line in lines if (row := self._decoded(line)) is not None]

    def _decoded(self, line: bytes) -> dict[str, Any] | None:
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            pass
        try:
            row = json.loads(line)  # takes NaN, which json.dumps writes
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            return {str(name): value for name, value in row.items()}
        self.num_bad += 1
        return None
