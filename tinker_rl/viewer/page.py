"""A run's page in one file, which needs nothing else: no server, no network."""

from __future__ import annotations

import base64
import os
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO

import msgspec

from tinker_rl.viewer.plain import encode
from tinker_rl.viewer.reader import PARTS, RunReader
from tinker_rl.viewer.template import page_parts
from tinker_rl.viewer.unwritable import unwritable

__all__ = ["DEFAULT_MAX_MB", "PageSummary", "gzipped", "write_page"]

FORMAT = 1
DEFAULT_MAX_MB = 200.0
_MEGABYTE = 1_000_000
_LEVEL = 5
_COPIED_AT_ONCE = 1 << 20


class PageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    path: Path
    num_bytes: int
    num_left_out: int
    """Chunks of episodes that would have made the page too large."""
    notes: tuple[tuple[str, ...], ...]
    """What the page says of each run: what is missing, lost or left out, and why."""


def write_page(
    runs: Sequence[RunReader],
    path: Path,
    *,
    max_mb: float = DEFAULT_MAX_MB,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PageSummary:
    """Write the page of runs, whole or not at all.

    Chunks of episodes are left out, evenly over each run, where they would not fit: the page says
    which. What else there is has its place in any case.

    Args:
        runs: Each polled before.
        path: The file, which is replaced.
        max_mb: Most megabytes of episodes.
        progress: Is told how many chunks of how many are done.
    Raises:
        DataError: if the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with tempfile.TemporaryFile(dir=path.parent) as spool:
            left_out = _spool_runs(runs, spool, max_mb * _MEGABYTE / len(runs), progress)
            heads = [run.head(str(n), left_out[n]) for n, run in enumerate(runs)]
            data = {"format": FORMAT, "mode": "file", "written_at": time.time(), "runs": heads}
            first = [part for n, run in enumerate(runs) for part in _parts(n, run, left_out[n])]
            try:
                with temporary.open("wb") as file:
                    for part in page_parts(data, lambda: chain(first, _copied(spool))):
                        file.write(part)
                os.replace(temporary, path)
            except BaseException:  # Ctrl-C too leaves no half file
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise unwritable(path, error, "--out") from error
    return PageSummary(
        path=path,
        num_bytes=path.stat().st_size,
        num_left_out=sum(map(len, left_out)),
        notes=tuple(tuple(head["notes"]) for head in heads),
    )


def _spool_runs(
    runs: Sequence[RunReader],
    spool: IO[bytes],
    most_bytes: float,
    progress: Callable[[int, int], None],
) -> list[set[int]]:
    """Write the chunks of episodes; gives those of each run that were left out."""
    chunks = [list(run.journal.chunk_revisions()) for run in runs]
    total, done = sum(map(len, chunks)), 0
    left_out = [set(numbers) for numbers in chunks]
    for n, run in enumerate(runs):
        num_bytes = 0
        for number, element in _chunks(n, run, chunks[n]):
            if num_bytes + len(element) > most_bytes:
                break
            spool.write(element)
            num_bytes += len(element)
            left_out[n].discard(number)
            done += 1
            progress(done, total)
    progress(total, total)
    return left_out


def _parts(n: int, run: RunReader, left_out: Collection[int]) -> Iterator[bytes]:
    """Elements of all but the chunks, which come first in the page, as they are seen first."""
    for part in PARTS:
        yield _blob(f"{n}/{part}", encode(run.part(part, left_out)))


def _chunks(n: int, run: RunReader, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Number and element of each chunk, spread evenly; one is packed while the next is read."""
    with ThreadPoolExecutor(1) as thread:
        packed: deque[tuple[int, Future[bytes]]] = deque()
        for number in spread(numbers):
            data = encode(run.journal.chunk(number))
            packed.append((number, thread.submit(_blob, f"{n}/chunk/{number}", data)))
            if len(packed) > 1:
                first, element = packed.popleft()
                yield first, element.result()
        for number, element in packed:
            yield number, element.result()


def spread(items: Sequence[int]) -> Iterator[int]:
    """The first, the last, and then always what is farthest from those before: so that wherever
    one stops, what came is spread evenly."""
    yield from islice(items, 1)
    if len(items) > 1:
        yield items[-1]
    gaps = [(0, len(items) - 1)]
    while gaps:
        halves: list[tuple[int, int]] = []
        for low, high in gaps:
            middle = (low + high) // 2
            if low < middle < high:
                yield items[middle]
                halves += [(low, middle), (middle, high)]
        gaps = halves


def gzipped(data: bytes) -> bytes:
    """The same in gzip's form."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


def _blob(name: str, data: bytes) -> bytes:
    head = f'<script type="text/plain" data-blob="{name}">'.encode()
    return head + base64.b64encode(gzipped(data)) + b"</script>\n"


def _copied(spool: IO[bytes]) -> Iterator[bytes]:
    spool.seek(0)
    while block := spool.read(_COPIED_AT_ONCE):
        yield block
