"""What is left in an event loop, and what Python throws away: tasks, generators, what is open."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import sys
import warnings
import weakref
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from pathlib import Path
from types import AsyncGeneratorType
from typing import Any, NamedTuple

import psutil
import sniffio
import trio

from tinker_rl.envs.error_reports import is_ours
from tinker_rl.testing.cancellation.await_points import driven_by
from tinker_rl.testing.cancellation.stacks import await_chain, is_library

__all__ = [
    "LateClosings",
    "Leak",
    "async_generators",
    "late_closings",
    "tasks",
    "while_open",
]


class Leak(NamedTuple):
    """Something that was left."""

    kind: str
    text: str
    """What it is."""
    along: tuple[str, ...] = ()
    """What is open only because of it: the pipes of a process."""

    def __str__(self) -> str:
        if not self.along:
            return self.text
        counts = Counter(self.along)
        named = [name if count == 1 else f"{count} {name}s" for name, count in counts.items()]
        return f"{self.text} (open with it: {', '.join(named)})"


def tasks() -> dict[Any, str]:
    """The tasks of this event loop, with where each waits; none of those that anyio keeps."""
    if sniffio.current_async_library() == "asyncio":
        coroutines = {task: task.get_coro() for task in asyncio.all_tasks()}
    else:
        coroutines = {task: task.coro for task in _trio_tasks()}
    return {task: _waiting(one) for task, one in coroutines.items() if not _is_of_anyio(one)}


def _trio_tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield task
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _is_of_anyio(coroutine: Any) -> bool:
    """Whether a task ends with the loop, and with it the idle workers of `to_process.run_sync`."""
    driven = driven_by(coroutine)
    code = getattr(coroutine if driven is None else driven.coroutine, "cr_code", None)
    return (
        code is not None
        and code.co_name in ("_shutdown_process_pool", "_shutdown_process_pool_on_exit")
        and f"{os.sep}anyio{os.sep}" in code.co_filename
    )


def _waiting(coroutine: Any) -> str:
    """What a task runs, and a line of the user's: where it waits, or else where it was started.

    The name of the task says neither, and asyncio gives another one each time.
    """
    driven = driven_by(coroutine)
    if driven is not None:
        coroutine = driven.coroutine
    frames = [f for f in await_chain(coroutine) if not is_ours(f.f_code.co_filename)]
    users = [frame for frame in frames if not is_library(frame)]
    if users:
        place = f"{users[-1].f_code.co_filename}:{users[-1].f_lineno}"
        return f"{users[0].f_code.co_qualname} still runs ({place})"
    name = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
    if frames:
        name = f"{frames[0].f_globals.get('__name__', '')}.{frames[0].f_code.co_qualname}"
    started = driven.started_at if driven is not None else ""
    return f"{name} still runs{started and f' (started at {started})'}"


@contextmanager
def async_generators() -> Generator[Callable[[], list[Leak]]]:
    """Watch async generators in this event loop; what it gives lists those that were not closed."""
    hooks = sys.get_asyncgen_hooks()
    begun: list[weakref.ref[AsyncGeneratorType[Any, Any]]] = []
    collected: list[Leak] = []

    def begin(generator: AsyncGenerator[Any, Any]) -> None:
        if isinstance(generator, AsyncGeneratorType) and not _is_of_runtime(generator):
            begun.append(weakref.ref(generator))
        if hooks.firstiter is not None:
            hooks.firstiter(generator)

    def collect(generator: AsyncGenerator[Any, Any]) -> None:
        if isinstance(generator, AsyncGeneratorType) and not _is_of_runtime(generator):
            collected.append(_unclosed(generator))
        if hooks.finalizer is not None:
            hooks.finalizer(generator)

    def unclosed() -> list[Leak]:
        alive = [generator for ref in begun if (generator := ref()) is not None]
        return [*collected, *(_unclosed(g) for g in alive if g.ag_frame is not None)]

    sys.set_asyncgen_hooks(firstiter=begin, finalizer=collect)
    try:
        yield unclosed
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _is_of_runtime(generator: AsyncGeneratorType[Any, Any]) -> bool:
    file = generator.ag_code.co_filename
    return is_ours(file) or f"{os.sep}anyio{os.sep}" in file or f"{os.sep}trio{os.sep}" in file


def _unclosed(generator: AsyncGeneratorType[Any, Any]) -> Leak:
    code = generator.ag_code
    line = generator.ag_frame.f_lineno if generator.ag_frame is not None else code.co_firstlineno
    name = f"{code.co_qualname} waits at {code.co_filename}:{line}"
    return Leak(
        "async generator", f"{name}; what is after that line has not run. Use aclosing(...)"
    )


class LateClosings:
    """What nobody closed and Python threw away: files, sockets, subprocesses."""

    def __init__(self, caught: Sequence[warnings.WarningMessage]) -> None:
        self._caught = caught
        self._num_before = 0

    def looks(self) -> None:
        """What is open is looked at now: it was not thrown away before."""
        self._num_before = len(self._caught)

    @property
    def never_awaited(self) -> list[str]:
        """Coroutines that were made, and never ran, each with the line that dropped it."""
        found = (one for one in self._caught if "was never awaited" in str(one.message))
        return [f"{one.message!s} ({one.filename}:{one.lineno})" for one in found]

    def leaks(self, ends: Mapping[int, Collection[int]], descriptors: dict[int, str]) -> list[Leak]:
        """All of it, but what was of processes that are left.

        Args:
            ends: The descriptors of each of these, by its number, at the look.
            descriptors: What all that was open then is called.
        """
        of_processes = {number for numbers in ends.values() for number in numbers}
        found: list[Leak] = []
        for place, warning in enumerate(self._caught):
            was_open, text = place >= self._num_before, str(warning.message)
            if not issubclass(warning.category, ResourceWarning) or _is_no_leak(text):
                continue
            if was_open and _number(r"unclosed file <.* name=", text) in of_processes:
                continue
            if (
                _number(r"subprocess |unclosed transport <\w*SubprocessTransport pid=", text)
                in ends
            ):
                continue
            named = _named_by(text, descriptors) if was_open else text
            found.append(Leak("thrown away", f"{named}, when Python collected it"))
        return found


@contextmanager
def late_closings() -> Generator[LateClosings]:
    """Collects what nobody closed and Python threw away, and throws away what nobody holds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield LateClosings(caught)
        gc.collect()
    for warning in caught:
        if not issubclass(warning.category, ResourceWarning):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def _number(before: str, text: str) -> int | None:
    found = re.match(rf"(?:{before})(\d+)", text)
    return None if found is None else int(found[1])


def _named_by(text: str, descriptors: dict[int, str]) -> str:
    """With the name of the file for the number of its descriptor."""
    found = re.match(r"unclosed file <.* name=(\d+)[ >]", text)
    name = descriptors.get(int(found[1])) if found is not None else None
    if found is None or name is None:
        return text
    return f"{text[: found.start(1)]}{name!r}{text[found.end(1) :]}"


def while_open(leak: Leak) -> Leak:
    """What a leak is while it is open, for what was thrown away; others are what they are.

    Whether Python collects it before or after the look is chance, and it is one leak.
    """
    kind, text, _ = leak
    if kind != "thrown away":
        return leak
    what, _, more = text.partition(", when Python collected it")
    file = re.match(r"unclosed file <.* name='(.+?)'[ >]", what)
    if file is not None:
        name = os.path.realpath(file[1]) if Path(file[1]).exists() else file[1]
        return Leak("file", f"{name} is still open{more}")
    if re.match(r"unclosed (<[\w.]*socket|transport <\w*Socket)", what):
        return Leak("socket", f"socket is still open{more}")
    if re.match(r"unclosed transport <\w*PipeTransport", what):
        return Leak("file", f"pipe is still open{more}")
    return Leak(kind, re.sub(r"((?:fd|name|pid)=|^subprocess )\d+", r"\1*", text))


def _is_no_leak(warning: str) -> bool:
    """Async generators are found by themselves; asyncio may drop a process that it killed.

    It warns of a closed loop for a writer, next to the warning for the writer's transport.
    """
    dropped = re.match(r"subprocess (\d+) is still running", warning)
    has_ended = dropped is not None and not psutil.pid_exists(int(dropped[1]))
    return has_ended or "Async generator" in warning or warning == "loop is closed"
