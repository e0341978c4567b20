"""Virtual time: an hour of waiting takes milliseconds.

Time is what `anyio.current_time()` says. It stands still while anything runs, and jumps to the next
deadline when every task sleeps. `time.monotonic`, `time.time` and `time.sleep` are not touched.

To the event loop, a task that waits for the world outside is asleep, and time would leap to the
next deadline before the world has answered. So time stands still, too, while a task waits for work
in a thread (`anyio.to_thread`, `anyio.to_process`, `loop.run_in_executor`, environments with
`runs_in`, requests to an engine). While one waits for a socket, a pipe or a subprocess, which may
never answer, time passes as real time does, so that limits still hold; then it jumps again.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Any, Literal, TypeAlias, TypeVar

import anyio
import anyio.to_process
import anyio.to_thread
import trio
import trio.abc
import trio.testing
from anyio._backends._asyncio import TaskGroup as AsyncioTaskGroup

from tinker_rl.errors import UnknownNameError, choices
from tinker_rl.futures import wait_for
from tinker_rl.testing.cancellation.stacks import await_chain

__all__ = ["Backend", "VirtualTimeLoop", "run_in_virtual_time", "virtual_clock"]

T = TypeVar("T")

Backend: TypeAlias = Literal["trio", "asyncio"]

A_MONTH = 30 * 24 * 3600.0

REAL_SECONDS = 0.002
"""How long the asyncio loop sleeps for real before it looks again whether a thread is done."""


def run_in_virtual_time(
    function: Callable[..., Awaitable[T]],
    *args: Any,
    backend: Backend = "trio",
    max_seconds: float = A_MONTH,
) -> T:
    """Run an async function to its end in an event loop of its own, in virtual time.

    Args:
        function: What to run: `do_single_rollout`, `do_group_rollout`, a whole `rl` run, anything.
        args: Its positional arguments.
        backend: Event loop.
        max_seconds: Longest that it may take, in virtual seconds; what waits for ever is found
            thereby, and at once.
    Returns:
        What it returns.
    Raises:
        TimeoutError: if it takes longer.
    """

    async def bounded() -> T:
        with anyio.move_on_after(max_seconds):
            return await function(*args)
        raise TimeoutError(
            f"run_in_virtual_time: expected {getattr(function, '__name__', function)} to end "
            f"within {max_seconds:.0f} virtual seconds; got no end. It waits for what never comes: "
            "bound it, with RolloutLimits for example."
        )

    return anyio.run(bounded, backend=backend, backend_options=virtual_clock(backend))


def virtual_clock(backend: str = "trio") -> dict[str, Any]:
    """Options with which `anyio.run`, or the pytest plugin of anyio, runs in virtual time.

    `anyio.run(main, backend="asyncio", backend_options=virtual_clock("asyncio"))`. Ask for new ones
    for each run.

    Raises:
        UnknownNameError: if there is no such backend.
    """
    if backend == "trio":
        clock = trio.testing.MockClock(autojump_threshold=0)
        return {"clock": clock, "instruments": [_WaitsForTheWorld(clock)]}
    if backend == "asyncio":
        return {"loop_factory": VirtualTimeLoop}
    raise UnknownNameError(
        f"virtual_clock: expected a backend of anyio; got {backend!r}."
        f"{choices(str(backend), ('trio', 'asyncio'))}"
    )


class _WaitsForTheWorld(trio.abc.Instrument):
    """Keeps the clock from jumping while a task waits for the world outside of the loop."""

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self._clock = clock
        self._waiting: set[trio.lowlevel.Task] = set()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if waits_outside(task.coro):
            self._waiting.add(task)
        else:
            self._waiting.discard(task)
        self._set_clock()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._waiting.discard(task)
        self._set_clock()

    def _set_clock(self) -> None:
        flows = not self._waiting and _num_waiting_for_io() > TRIOS_OWN
        threshold = float("inf") if self._waiting or flows else 0.0
        if self._clock.rate != flows:
            self._clock.rate = float(flows)
        if self._clock.autojump_threshold != threshold:
            self._clock.autojump_threshold = threshold


TRIOS_OWN = 1
"""Tasks of trio itself that wait for a descriptor: the one that takes calls from other threads."""


def _num_waiting_for_io() -> int:
    """How many tasks of this trio loop wait for a descriptor, or for what Windows has instead."""
    counts = trio.lowlevel.current_statistics().io_statistics
    names = (
        "tasks_waiting_read",
        "tasks_waiting_write",
        "tasks_waiting",
        "tasks_waiting_overlapped",
    )
    return sum(getattr(counts, name, 0) for name in names)


class _JumpingSelector(selectors.DefaultSelector):
    """Gives the loop the time that it wanted to sleep, instead of sleeping.

    What is ready outside of the loop (sockets, calls from threads) comes before any jump.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualTimeLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.loop is None or not self.loop.jumps:
            return super().select(timeout)
        ready = super().select(0)
        if ready:
            return ready
        if self.loop.waits_outside():
            return super().select(REAL_SECONDS)
        if self.loop.waits_for_io():
            began = time.monotonic()
            ready = super().select(timeout)
            self.loop.jump(time.monotonic() - began)
            return ready
        self.loop.jump(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time, which begins at 0."""

    def __init__(self) -> None:
        self._own_selector = _JumpingSelector()
        self._virtual_time = 0.0
        self._num_in_executors = 0
        self._subprocesses: list[asyncio.SubprocessTransport] = []
        self.jumps = True
        """Whether time may jump; otherwise it stands still."""
        super().__init__(self._own_selector)
        self._num_own = len(self._own_selector.get_map())  # it wakes itself through one
        self._own_selector.loop = self

    def time(self) -> float:
        return self._virtual_time

    def jump(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._virtual_time += seconds

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Count what runs in a thread: names of hosts are looked up in this way, too."""
        future = super().run_in_executor(executor, func, *args)
        self._num_in_executors += 1
        future.add_done_callback(self._leave_executor)
        return future

    def _leave_executor(self, _: asyncio.Future[Any]) -> None:
        self._num_in_executors -= 1

    def waits_outside(self) -> bool:
        """Whether a task waits for a thread."""
        if self._num_in_executors:
            return True
        return any(waits_outside(task.get_coro()) for task in asyncio.all_tasks(self))

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        """Remember the subprocess: no descriptor tells when it ends."""
        return self._remembered(await super().subprocess_exec(*args, **options))

    async def subprocess_shell(self, *args: Any, **options: Any) -> Any:
        """Remember it, as `subprocess_exec` does."""
        return self._remembered(await super().subprocess_shell(*args, **options))

    def _remembered(self, started: tuple[asyncio.SubprocessTransport, Any]) -> Any:
        self._subprocesses.append(started[0])
        return started

    def waits_for_io(self) -> bool:
        """Whether a task may wait for an open descriptor or for a subprocess.

        A connection that is kept open is registered though nobody waits for it. So it counts only
        while a task waits for something that is neither time nor other tasks.
        """
        self._subprocesses = [p for p in self._subprocesses if p.get_returncode() is None]
        if len(self._own_selector.get_map()) <= self._num_own and not self._subprocesses:
            return False
        chains = [await_chain(task.get_coro()) for task in asyncio.all_tasks(self)]
        return any(chain and chain[-1].f_code not in _INSIDE for chain in chains)


def waits_outside(coroutine: Any) -> bool:
    """Whether a coroutine waits, at present, for a thread or a process that works for it."""
    return any(frame.f_code in _OUTSIDE for frame in await_chain(coroutine))


def _codes(*functions: Callable[..., Any]) -> frozenset[CodeType]:
    return frozenset(function.__code__ for function in functions)


_OUTSIDE = _codes(
    trio.to_thread.run_sync,
    anyio.to_thread.run_sync,
    anyio.to_process.run_sync,
    wait_for,
)
"""Functions in which a task waits for work that is done outside of the event loop."""

_INSIDE = _codes(
    asyncio.sleep,
    asyncio.wait_for,
    asyncio.tasks._wait,  # pyright: ignore
    asyncio.TaskGroup.__aexit__,
    AsyncioTaskGroup.__aexit__,
)
"""Functions that wait for time or for other tasks."""
