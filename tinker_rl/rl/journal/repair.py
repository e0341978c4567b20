"""Going on without the damaged end of a journal."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

import msgspec

from tinker_rl.errors import DataError, JournalError
from tinker_rl.rl.journal.frames import FILE_HEADER, Frame, scan

__all__ = ["Cut", "cut_journal"]


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What was cut off, and where it still is."""

    num_bytes: int
    copy: Path
    """The whole file as it was."""


def cut_journal(path: Path, offset: int) -> Cut:
    """Cut off a record and all after it, after the file was copied beside itself.

    No run may be writing to it: hold `lock_log_dir`.

    Args:
        offset: Where the record begins, as the error about it says.
    Raises:
        JournalError: if no record begins there. Nothing is changed.
        DataError: if there is no room for the copy. Nothing is changed.
    """
    try:
        with path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            _check_offset(path, offset, size, _beginnings(file.fileno(), path))
            copy = _copied(path, offset)
            file.truncate(offset)
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(
            f"{path}: expected a journal that can be copied and cut; got "
            f"{error.strerror or error}. Make room or mend the folder's rights; nothing was cut."
        ) from error
    return Cut(num_bytes=size - offset, copy=copy)


def _beginnings(fd: int, path: Path) -> list[int]:
    """Where records begin, up to the first that cannot be read."""
    found = [len(FILE_HEADER)]
    with suppress(JournalError):
        for frame in scan(fd, path):
            if isinstance(frame, Frame):
                found.append(frame.end)
    return found


def _check_offset(path: Path, offset: int, size: int, beginnings: list[int]) -> None:
    if offset in beginnings and offset < size:
        return
    near = min(beginnings, key=lambda beginning: abs(beginning - offset))
    raise JournalError(
        f"{path}: expected an offset where a record begins, {beginnings[0]} to {beginnings[-1]}; "
        f"got {offset}, in a file of {size} bytes. The nearest is {near}. Nothing was cut."
    )


def _copied(path: Path, offset: int) -> Path:
    names = (path.with_name(f"{path.name}.before-cut-{offset}-{number}") for number in count(1))
    copy = next(name for name in names if not name.exists())
    try:
        shutil.copyfile(path, copy)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    return copy
