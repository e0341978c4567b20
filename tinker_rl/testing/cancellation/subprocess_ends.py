"""Which open descriptors are this side of a child process: its pipes, and what waits for it."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import psutil
import sniffio
import trio

__all__ = ["closing_ends", "descriptor_folder", "ends_of", "is_of_anyio"]

_STANDARD = (0, 1, 2)


def descriptor_folder() -> str | None:
    """Where the system lists the open descriptors of this process; None if it does not."""
    return next((f for f in ("/proc/self/fd", "/dev/fd") if Path(f).is_dir()), None)


def ends_of(children: Iterable[int]) -> dict[int, set[int]]:
    """The descriptors of this process that belong to each child, by the child's number.

    Those are the other ends of the child's standard streams and the descriptor that tells when it
    ends. They are known from the system, where it shows which pipes the child holds, and from the
    objects that Python has of it, which know them also of a child that has ended.

    Args:
        children: Numbers of processes.
    """
    found: dict[int, set[int]] = {pid: set() for pid in children}
    if not found:
        return found
    for number, target in _links("/proc/self/fd"):
        for pid in found:
            if _is_end_of(pid, number, target):
                found[pid].add(number)
    for pid, number in _known_to_python():
        if pid in found:
            found[pid].add(number)
    return found


def is_of_anyio(pid: int) -> bool:
    """Whether a child is a worker of `anyio.to_process`.

    Cancelled while it starts one, anyio leaves it, and it ends once Python collects its pipes.
    """
    try:
        return psutil.Process(pid).cmdline()[-1:] == ["anyio.to_process"]
    except psutil.Error:
        return False


def _is_end_of(pid: int, number: int, target: str) -> bool:
    if target == "anon_inode:[pidfd]":
        told = re.search(r"^Pid:\s*(\d+)$", _text(f"/proc/self/fdinfo/{number}"), re.MULTILINE)
        return told is not None and int(told[1]) == pid
    return target.startswith("pipe:[") and target in {
        theirs for own, theirs in _links(f"/proc/{pid}/fd") if own in _STANDARD
    }


def _links(folder: str) -> Iterator[tuple[int, str]]:
    """(number, target) of the descriptors in a folder of /proc; none of what may not be seen."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            yield int(name), os.readlink(f"{folder}/{name}")
        except OSError:  # closed by now
            continue


def _text(file: str) -> str:
    try:
        return Path(file).read_text()
    except OSError:
        return ""


def _known_to_python() -> Iterator[tuple[int, int]]:
    """(process, descriptor) of the open streams of all objects that stand for a process."""
    for process in gc.get_objects():
        if not issubclass(type(process), subprocess.Popen | trio.Process):
            continue
        for stream in (process.stdin, process.stdout, process.stderr):
            number = _number(stream)
            if number >= 0:
                yield process.pid, number


async def closing_ends(seconds: float) -> None:
    """Let asyncio close the pipes of processes that it killed, cancelled while it started them.

    Args:
        seconds: Longest that it may take, in real time.
    """
    if sniffio.current_async_library() != "asyncio":
        return
    loop, ends_at = asyncio.get_running_loop(), time.monotonic() + seconds
    while _is_closing(loop) and time.monotonic() < ends_at:
        time.sleep(0.001)  # noqa: ASYNC251  # the time of the event loop is virtual
        await anyio.lowlevel.cancel_shielded_checkpoint()


def _is_closing(loop: asyncio.AbstractEventLoop) -> bool:
    return any(
        getattr(one, "_loop", None) is loop and one.is_closing()  # it forgets the loop at its end
        for one in gc.get_objects()
        if issubclass(type(one), asyncio.SubprocessTransport)
    )


def _number(stream: Any) -> int:
    """Of the descriptor of a stream; -1 if there is none, or it is closed."""
    try:
        return stream.fileno()
    except (AttributeError, ValueError):
        return -1
