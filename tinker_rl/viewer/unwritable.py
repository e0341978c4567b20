"""The error about a file that could not be written, and what to do about it."""

from __future__ import annotations

import errno
from pathlib import Path

from tinker_rl.errors import DataError

__all__ = ["unwritable"]


def unwritable(path: Path, error: OSError, option: str) -> DataError:
    """The error of a file of the viewer's.

    Args:
        path: The file.
        error: Why it could not be written.
        option: The option of the command that names another file.
    """
    why = error.strerror or error
    return DataError(
        f"{path}: expected a file that can be written; got {why}. {_what_to_do(path, error)} "
        f"another file with {option}."
    )


def _what_to_do(path: Path, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"This user has no permission to write in {path.parent}: choose"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Make room, or choose"
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        return f"Make the folder {path.parent}, or choose"
    return "Choose"
