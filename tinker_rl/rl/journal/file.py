"""The journal of a run: one append-only file of what is not to be lost, and an index of it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tinker_rl.errors import DataError, JournalError
from tinker_rl.rl.journal.codec import decode, decode_head, encode
from tinker_rl.rl.journal.frames import (
    FILE_HEADER,
    Frame,
    Torn,
    damage,
    pack_frame,
    read_frame,
    scan,
)
from tinker_rl.rl.journal.index import JournalIndex
from tinker_rl.rl.journal.records import GroupRecord, Record, TrainedRecord

__all__ = ["JOURNAL_FILE", "Journal"]

JOURNAL_FILE = "journal.bin"


class Journal(JournalIndex):
    """Records on the disk. The index is in memory, the groups are not.

    What `append` wrote outlives a kill of the process; what `sync` wrote, a loss of power. All
    methods may be called from any thread.
    """

    torn: Torn | None = None
    """What was cut off when the file was opened, or would have been."""

    def __init__(self, path: Path, fd: int, *, is_read_only: bool) -> None:
        super().__init__()
        self.path = path
        self._fd: int | None = fd
        self._is_read_only = is_read_only
        self._file_lock = threading.Lock()
        self._end = 0
        """Where the next record goes."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a journal to go on with, or begin one; what is torn at its end is cut off.

        Raises:
            JournalError: if a record is damaged; the message has its offset.
            DataError: if the file cannot be read or written.
        """
        return cls._opened_with(path, os.O_RDWR | os.O_CREAT)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open a journal to look at; nothing is changed, and nothing can be appended.

        The run may be writing meanwhile: what it is just writing looks torn, and what it adds
        later is not seen.

        Raises:
            JournalError: if a record is damaged; the message has its offset.
            DataError: if there is no such file.
        """
        return cls._opened_with(path, os.O_RDONLY)

    @classmethod
    def _opened_with(cls, path: Path, flags: int) -> Self:
        try:
            fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
            journal = cls(path, fd, is_read_only=flags == os.O_RDONLY)
            try:
                journal._load()
            except BaseException:
                journal.close()
                raise
            return journal
        except OSError as error:
            raise _unusable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Write a record, in one piece. It outlives a kill of this process from here on.

        Raises:
            JournalError: for a group that is there already, or a commit of a group that is not
                there or that another step trained. Nothing is written.
            DataError: if the disk is full. The file ends with the last whole record then.
        """
        payload = encode(record)
        head = decode_head(payload)
        with self._file_lock:
            fd = self._writable()
            if problem := self._problem(head):
                raise JournalError(
                    f"Journal.append: {problem}. This is a fault of the run's schedule; the "
                    f"journal {self.path} is well."
                )
            frame = pack_frame(payload)
            self._write(fd, frame)
            self._add(head, self._end)
            self._end += len(frame)

    def read_group(self, number: int) -> GroupRecord:
        """A finished group, from the disk.

        Raises:
            JournalError: if it is not in the journal, or was damaged since the file was opened.
            DataError: if the disk cannot be read.
        """
        offset = self._offset_of(number)
        if offset is None:
            raise JournalError(
                f"Journal.read_group: expected a finished group; got {number}, which is not in "
                f"{self.path}. finished_groups() lists those that are."
            )
        record = self._record_at(offset)
        assert isinstance(record, GroupRecord)
        return record

    def read_trained(self, step: int) -> TrainedRecord | None:
        """What the learner said of the tokens of a step, from the disk.

        None if the step is not committed, trained nothing, or is older than these records.

        Raises:
            JournalError: if it was damaged since the file was opened.
            DataError: if the disk cannot be read.
        """
        offset = self._offset_of_trained(step)
        if offset is None:
            return None
        record = self._record_at(offset)
        assert isinstance(record, TrainedRecord)
        return record

    def sync(self) -> None:
        """Have the disk keep all that was appended, also when the power goes.

        Raises:
            DataError: if the disk cannot.
        """
        with self._file_lock:
            try:
                os.fsync(self._writable())
            except OSError as error:
                raise _unusable(self.path, error) from error

    def close(self) -> None:
        """Give back the file; a second call does nothing. Does not sync."""
        with self._file_lock:
            self._close()

    # ---------------------------------------------------------------------------- the file

    def _load(self) -> None:
        """Read what is there, and cut off what is torn where this may write."""
        fd = self._opened()
        self._end = len(FILE_HEADER)
        for found in scan(fd, self.path):
            if isinstance(found, Torn):
                self.torn = found
            else:
                self._take(found)
        if self._is_read_only:
            return
        size = os.fstat(fd).st_size
        if size < len(FILE_HEADER) or (self.torn and self.torn.offset == 0):
            self._begin(fd)
        elif self.torn:
            os.ftruncate(fd, self.torn.offset)

    def _begin(self, fd: int) -> None:
        """Write the file's header, and have the disk keep the file's name too."""
        os.ftruncate(fd, 0)
        _write_all(fd, FILE_HEADER, 0)
        os.fsync(fd)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _take(self, frame: Frame) -> None:
        try:
            head = decode_head(frame.payload)
            if problem := self._problem(head):
                raise ValueError(problem)
        except ValueError as error:
            size = os.fstat(self._opened()).st_size
            raise damage(self.path, frame.offset, size, str(error)) from error
        self._add(head, frame.offset)
        self._end = frame.end

    def _record_at(self, offset: int) -> Record:
        with self._file_lock:
            payload = self._payload_at(offset)
        try:
            return decode(payload)
        except ValueError as error:
            raise damage(self.path, offset, self._end, str(error)) from error

    def _payload_at(self, offset: int) -> bytes:
        fd = self._opened()
        try:
            frame = read_frame(fd, offset, self._end)
        except ValueError as error:
            raise damage(self.path, offset, self._end, str(error)) from error
        except OSError as error:
            raise _unusable(self.path, error) from error
        assert frame is not None
        return frame.payload

    def _write(self, fd: int, frame: bytes) -> None:
        """Write all of a frame at the end, or nothing."""
        try:
            if os.fstat(fd).st_size != self._end:  # an append was interrupted, and not acknowledged
                os.ftruncate(fd, self._end)
            _write_all(fd, frame, self._end)
        except OSError as error:
            with suppress(OSError):  # the next append tries again
                os.ftruncate(fd, self._end)
            raise _unusable(self.path, error) from error

    def _opened(self) -> int:
        if self._fd is None:
            raise JournalError(
                f"{self.path}: expected a journal that is open; got a closed one. Open it again."
            )
        return self._fd

    def _writable(self) -> int:
        if self._is_read_only:
            raise JournalError(
                f"{self.path}: expected a journal to write to; got one opened with Journal.read. "
                "Use Journal.open."
            )
        return self._opened()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None


def _write_all(fd: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        num_bytes = os.pwrite(fd, rest, offset)
        rest, offset = rest[num_bytes:], offset + num_bytes


def _unusable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path}: expected a journal that can be read and written; got {error.strerror or error}. "
        "Make room or mend the folder's rights, and run the same command again: it goes on from "
        "the last whole record."
    )
