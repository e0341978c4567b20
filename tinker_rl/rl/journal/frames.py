"""How records lie in the file: each framed, so that a torn end and damage can be told apart.

    file   := "tinker_rl journal 1\\n" frame*
    frame  := header payload 0xA5
    header := length of the payload (u64), crc32 of the payload (u32), crc32 of these 12 bytes (u32)

Integers are little-endian. A length is believed only when the header's own checksum holds, so that
a damaged one does not pass for a file that ends too early. A frame ends with a byte that is not
zero, so that a tail of zeros, which a file system may leave of what it had not written when the
power went, is no part of a whole frame.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

import msgspec

from tinker_rl.errors import JournalError

__all__ = [
    "FILE_HEADER",
    "Frame",
    "Torn",
    "damage",
    "num_written_bytes",
    "pack_frame",
    "read_frame",
    "scan",
]

FILE_HEADER = b"tinker_rl journal 1\n"

_SUMMED = Struct("<QI")
_HEADER = Struct("<QII")
_END = b"\xa5"
_BLOCK = 1 << 16


class Torn(msgspec.Struct, frozen=True):
    """The end of a file that holds a part of a record: it was being written when all ended."""

    offset: int
    """Where the record begins."""
    num_bytes: int
    """Bytes from there to the end of the file."""


class Frame(msgspec.Struct, frozen=True):
    """A whole record in the file."""

    offset: int
    end: int
    """Offset of what follows."""
    payload: bytes


def pack_frame(payload: bytes) -> bytes:
    """A payload with its header and end."""
    summed = _SUMMED.pack(len(payload), zlib.crc32(payload))
    header = _HEADER.pack(len(payload), zlib.crc32(payload), zlib.crc32(summed))
    return header + payload + _END


def read_frame(fd: int, offset: int, written: int) -> Frame | None:
    """The frame at `offset`; None if it is torn.

    Args:
        fd: The file.
        offset: Where a frame begins.
        written: Size of the file without zeros at its end.
    Raises:
        ValueError: if the frame is damaged; the message says how.
    """
    if offset + _HEADER.size > written:
        return None
    header = _pread(fd, _HEADER.size, offset)
    length, payload_sum, header_sum = _HEADER.unpack(header)
    _check("header", header_sum, header[: _SUMMED.size])
    start = offset + _HEADER.size
    end = start + length + len(_END)
    if end > written:
        return None
    data = _pread(fd, length + len(_END), start)
    _check("payload", payload_sum, data[:length])
    if data[length:] != _END:
        raise ValueError(f"expected the byte {_END!r} at its end; got {data[length:]!r}")
    return Frame(offset, end, data[:length])


def _check(what: str, expected: int, data: bytes) -> None:
    actual = zlib.crc32(data)
    if actual != expected:
        raise ValueError(f"expected a {what} of checksum {expected:#010x}; got {actual:#010x}")


def _pread(fd: int, num_bytes: int, offset: int) -> bytes:
    data = b""
    while len(data) < num_bytes:
        more = os.pread(fd, num_bytes - len(data), offset + len(data))
        if not more:
            raise ValueError(f"expected {num_bytes} bytes; the file was cut meanwhile")
        data += more
    return data


def num_written_bytes(fd: int) -> int:
    """Size of the file without the zeros at its end."""
    size = os.fstat(fd).st_size
    while size > 0:
        start = max(0, size - _BLOCK)
        block = _pread(fd, size - start, start).rstrip(b"\0")
        if block:
            return start + len(block)
        size = start
    return 0


def scan(fd: int, path: Path) -> Iterator[Frame | Torn]:
    """Every whole frame of the file, and at last what is torn, if anything is.

    Raises:
        JournalError: at the first damage; the message has its offset.
    """
    size, written = os.fstat(fd).st_size, num_written_bytes(fd)
    header = _pread(fd, min(written, len(FILE_HEADER)), 0)
    _check_file_header(header, path)
    offset = len(header) if header == FILE_HEADER else 0
    while 0 < offset < size:
        try:
            frame = read_frame(fd, offset, written)
        except ValueError as error:
            raise damage(path, offset, size, str(error)) from error
        if frame is None:
            break
        yield frame
        offset = frame.end
    if offset < size:
        yield Torn(offset, size - offset)


def _check_file_header(header: bytes, path: Path) -> None:
    """Accepts the beginning of one too: a kill may fall into the making of the file."""
    if FILE_HEADER.startswith(header):
        return
    if other := re.match(rb"tinker_rl journal (\d+)", header):
        raise JournalError(
            f"{path}, offset 0: expected format 1; got {other[1].decode()}. Read it with the "
            "version of tinker_rl that wrote it."
        )
    raise JournalError(
        f"{path}, offset 0: expected the beginning of a journal, {FILE_HEADER!r}; got {header!r}. "
        "If this file is a journal, put back a copy of it; else move it away."
    )


def damage(path: Path, offset: int, size: int, what: str) -> JournalError:
    """The error about a record that cannot be read."""
    return JournalError(
        f"{path}, record at offset {offset}: {what}. The disk or another program changed it. Put "
        f"back a copy of the file, or go on without this record and all after it, {size - offset} "
        f"bytes: python -m tinker_rl journal {path} --cut {offset} (keeps a copy)."
    )
