"""Which open descriptors are this side of a child process: its pipes, and what waits for it."""

from __future__ import annotations

import gc
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import trio

__all__ = ["descriptor_folder", "ends_of"]

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


def _number(stream: Any) -> int:
    """Of the descriptor of a stream; -1 if there is none, or it is closed."""
    try:
        return stream.fileno()
    except (AttributeError, ValueError):
        return -1
