"""Files that a kill at any moment leaves readable: JSON lines, and whole files replaced at once."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tinker_rl.errors import DataError

__all__ = ["JsonLines", "write_text"]

_encoder = msgspec.json.Encoder()


def write_text(path: Path, text: str, *, survives_power_loss: bool = True) -> None:
    """Write a whole file, or nothing: never a part of it. Its folder is made if it is not there.

    Args:
        survives_power_loss: Whether to wait until the disk has it; a kill of the process it
            survives in any case.
    Raises:
        DataError: if the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if survives_power_loss:
                os.fsync(file.fileno())
        os.replace(temporary, path)


class JsonLines:
    """A file of one JSON object a line, appended to and flushed to the disk line by line.

    A kill in the middle of a line leaves a torn one at the end. It was never acknowledged, so
    reading stops before it, and the next append cuts it off first.

    Args:
        path: The file.
        survives_power_loss: Whether to wait until the disk has each line; not needed of what can
            be made again. A kill of the process it survives in any case.
    """

    def __init__(self, path: Path, *, survives_power_loss: bool = True) -> None:
        self.path = path
        self._survives_power_loss = survives_power_loss

    def read(self) -> list[dict[str, Any]]:
        """The objects so far; none where there is no file.

        Raises:
            DataError: if a whole line holds no JSON object.
        """
        records: list[dict[str, Any]] = []
        for number, line in enumerate(self._whole_lines(), start=1):
            try:
                records.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.DecodeError as error:
                raise DataError(
                    f"{self.path}, line {number}: expected a JSON object; got {line[:80]!r} "
                    f"({error}). Mend or delete the line."
                ) from error
        return records

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one object. NaN and infinities become null, as JSON has none.

        Raises:
            DataError: if the disk is full or the file cannot be written to.
        """
        with _writing(self.path), self.path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if size and file.read(1) != b"\n":
                file.truncate(sum(map(len, self._whole_lines())))
            file.write(_encoder.encode(record) + b"\n")
            file.flush()
            if self._survives_power_loss:
                os.fsync(file.fileno())

    def replace(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Put these objects in place of all that are there."""
        lines = (_encoder.encode(record).decode() + "\n" for record in records)
        write_text(self.path, "".join(lines))

    def _whole_lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")
        return [line + b"\n" for line in lines[:-1]]


@contextmanager
def _writing(path: Path) -> Generator[None]:
    """Say in the words of this package why a file could not be written."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: expected a file that can be written; got {error.strerror or error}. Make "
            "room or choose another log_path, and run the same command again: it goes on from the "
            "last checkpoint."
        ) from error
