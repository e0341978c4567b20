"""What a process holds, so that two moments can be compared: threads, descriptors, children."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec
import psutil

from tinker_rl.testing.cancellation.leaks import Leak
from tinker_rl.testing.cancellation.subprocess_ends import descriptor_folder, is_of_anyio
from tinker_rl.testing.cancellation.threads import Executors, threads_at_work

__all__ = ["Inventory", "settled"]


class Inventory(msgspec.Struct, frozen=True):
    """What the process holds now, or holds more than at another time."""

    threads: dict[int, str]
    """Those that are at work, by identifier."""
    descriptors: dict[int, str]
    """Open files, sockets and pipes, by number."""
    children: dict[int, str]
    """Processes that it started and has not waited for, by number."""

    @classmethod
    def take(cls, kept: Executors = ()) -> Inventory:
        """Look at this process.

        Args:
            kept: Pools of threads whose idle workers are not counted.
        """
        return cls(threads_at_work(kept), _descriptors(), _children())

    def since(self, before: Inventory) -> Inventory:
        """What there is more than before."""
        return Inventory(
            _more(before.threads, self.threads),
            _more_descriptors(before.descriptors, self.descriptors),
            _more(before.children, self.children),
        )

    def __bool__(self) -> bool:
        return bool(self.threads or self.descriptors or self.children)

    def leaks(self, ends: Mapping[int, Collection[int]]) -> list[Leak]:
        """One for each thread, process and open file; a process has its pipes within.

        Args:
            ends: The descriptors of each process, by its number.
        """
        within = {number for numbers in ends.values() for number in numbers}
        return [
            *(Leak("thread", f"{name} still runs") for name in self.threads.values()),
            *(
                Leak("process", state, tuple(self._names(ends.get(pid, ()))))
                for pid, state in self.children.items()
                if not is_of_anyio(pid)
            ),
            *(
                Leak("socket" if name.startswith("socket") else "file", f"{name} is still open")
                for number, name in self.descriptors.items()
                if number not in within
            ),
        ]

    def _names(self, numbers: Collection[int]) -> Iterator[str]:
        for number in sorted(numbers):
            if number in self.descriptors:
                yield self.descriptors[number]


def settled(before: Inventory, seconds: float, kept: Executors = ()) -> Inventory:
    """What there is more than before, once what is about to end has had its time.

    Args:
        before: What is not counted.
        seconds: Longest that threads and processes may take to end, in real time.
        kept: Pools of threads whose idle workers are not counted.
    """
    ends_at = time.monotonic() + seconds
    more = Inventory.take(kept).since(before)
    while more and time.monotonic() < ends_at:
        time.sleep(0.005)
        more = Inventory.take(kept).since(before)
    return more


def _more(before: dict[int, str], now: dict[int, str]) -> dict[int, str]:
    return {key: name for key, name in now.items() if key not in before}


def _more_descriptors(before: dict[int, str], now: dict[int, str]) -> dict[int, str]:
    """Numbers are given again to what is opened next, so names are compared, too."""
    more = Counter(now.values()) - Counter(before.values())
    found: dict[int, str] = {}
    for number, name in now.items():
        if more[name] > 0 and before.get(number) != name:
            more[name] -= 1
            found[number] = name
    return found


def _descriptors() -> dict[int, str]:
    folder = descriptor_folder()
    if folder is None:
        return {}
    found: dict[int, str] = {}
    for name in os.listdir(folder):
        try:
            found[int(name)] = _named(f"{folder}/{name}")
        except OSError:  # that of the folder itself, closed by now
            continue
    return found


def _named(link: str) -> str:
    try:
        target = os.readlink(link)
    except OSError:
        os.stat(link)
        return "a descriptor"
    if target.endswith(" (deleted)"):
        return "a file without a name"
    kind, _, name = target.partition(":")
    return name.strip("[]") if kind == "anon_inode" else target.split(":[")[0]


def _children() -> dict[int, str]:
    """By Linux' own list where there is one: to look through all processes takes long."""
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:
        return {child.pid: _process(child.pid) for child in psutil.Process().children()}
    return {int(pid): _process(int(pid)) for file in lists for pid in _read(file).split()}


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # of a thread that has just ended
        return ""


def _process(pid: int) -> str:
    try:
        child = psutil.Process(pid)
        is_dead = child.status() == psutil.STATUS_ZOMBIE
        name = child.name()
    except psutil.NoSuchProcess:
        return f"process {pid} was not waited for"
    state = "ended, and nobody waited for it" if is_dead else "still runs"
    return f"{name!r} {state}"
