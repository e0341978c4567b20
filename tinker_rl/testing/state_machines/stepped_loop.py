"""An event loop in virtual time that runs in the calling thread, and only while it is called.

To hand each call to a loop in another thread takes longer than the call.
"""

from __future__ import annotations

import asyncio
import importlib
import queue
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import anyio
import anyio.lowlevel
import outcome
import sniffio
import trio
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskGroup, TaskStatus

from tinker_rl.errors import EngineError
from tinker_rl.testing.clock import VirtualTimeLoop, virtual_clock

__all__ = ["SteppedLoop"]

T = TypeVar("T")

Main = Callable[[], Coroutine[Any, Any, None]]


class SteppedLoop:
    """Runs async functions, one after the other; tasks that they start live on between them.

    Between two calls nothing runs, and no time passes.

    Args:
        backend: Event loop.
    """

    def __init__(self, backend: str) -> None:
        self._next: tuple[Callable[..., Awaitable[Any]], tuple[Any, ...]] | None = None
        self._result: outcome.Outcome[Any] | None = None
        self._started: TaskGroup | None = None
        self._steps: _Steps = _TrioSteps() if backend == "trio" else _AsyncioSteps()
        self._steps.begin(self._main)

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function in the loop, and wait for what it gives."""
        self._next, self._result = (function, args), None
        self._steps.run_until(lambda: self._result is not None)
        if self._result is None:
            raise EngineError("living group: its event loop has ended")
        return self._result.unwrap()

    def start(self, function: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """In the loop: start a task."""
        if self._started is None:
            raise EngineError("living group: its event loop has ended")
        self._started.start_soon(function)

    def cancel_started(self) -> None:
        """In the loop: cancel the tasks that were started."""
        if self._started is not None:
            self._started.cancel_scope.cancel()

    def close(self) -> None:
        """End the loop. Raises what it died of, if it did."""
        self._next = None
        self._steps.end()

    async def _main(self) -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._host)
            while True:
                self._steps.pause()
                await anyio.lowlevel.checkpoint()
                if self._next is None:
                    tasks.cancel_scope.cancel()
                    return
                function, args = self._next
                self._result = await _outcome_of(function, args)

    async def _host(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Holds the started tasks, which can be cancelled without the call that does it."""
        async with anyio.create_task_group() as started:
            self._started = started
            task_status.started()
            await anyio.sleep_forever()


class _Steps(Protocol):
    """How an event loop is run for a while."""

    def begin(self, main: Main) -> None: ...
    def run_until(self, is_done: Callable[[], bool]) -> None:
        """Run until then, or until the main task ends."""
        ...

    def pause(self) -> None:
        """In the loop: the main task has nothing to do."""
        ...

    def end(self) -> None:
        """Run until the main task ends, and raise what it raised."""
        ...


class _TrioSteps:
    """Trio as a guest, in trio's words, of a loop that is run here."""

    def __init__(self) -> None:
        self._ticks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._outcome: outcome.Outcome[None] | None = None
        self._state: dict[str, Any] = {}

    def begin(self, main: Main) -> None:
        with self._inside():
            trio.lowlevel.start_guest_run(
                main,
                run_sync_soon_threadsafe=self._ticks.put,
                done_callback=self._end_with,
                host_uses_signal_set_wakeup_fd=True,
                **virtual_clock("trio"),
            )

    def run_until(self, is_done: Callable[[], bool]) -> None:
        with self._inside():
            while self._outcome is None and not is_done():
                self._ticks.get()()

    def pause(self) -> None:
        pass  # what is not asked for is not run

    def end(self) -> None:
        self.run_until(lambda: False)
        if self._outcome is not None:
            self._outcome.unwrap()

    def _end_with(self, result: outcome.Outcome[None]) -> None:
        self._outcome = result

    @contextmanager
    def _inside(self) -> Generator[None]:
        """Let trio see this run, and outside of it whatever else there is: one a thread is all."""
        context: dict[str, Any] = vars(
            importlib.import_module("trio._core._run").GLOBAL_RUN_CONTEXT
        )
        outer = dict(context)
        _replace(context, self._state)
        try:
            yield
        finally:
            self._state = dict(context)
            _replace(context, outer)


class _AsyncioSteps:
    """An asyncio loop that is stopped and goes on."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self._loop = self._runner.get_loop()

    def begin(self, main: Main) -> None:
        self._task = self._loop.create_task(main())
        self._task.add_done_callback(lambda _: self._loop.stop())

    def run_until(self, is_done: Callable[[], bool]) -> None:
        with self._inside():
            while not (self._task.done() or is_done()):
                self._loop.run_forever()

    def pause(self) -> None:
        self._loop.stop()

    def end(self) -> None:
        self.run_until(lambda: False)
        with self._inside():
            self._runner.close()
        self._task.result()

    @contextmanager
    def _inside(self) -> Generator[None]:
        """Forget, for a while, the loop that this one is run in."""
        loop, library = asyncio._get_running_loop(), sniffio.thread_local.name
        asyncio._set_running_loop(None)
        sniffio.thread_local.name = "asyncio"
        try:
            yield
        finally:
            asyncio._set_running_loop(loop)
            sniffio.thread_local.name = library


async def _outcome_of(
    function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
) -> outcome.Outcome[Any]:
    try:
        return outcome.Value(await function(*args))
    except Exception as error:
        return outcome.Error(error)


def _replace(variables: dict[str, Any], by: dict[str, Any]) -> None:
    variables.clear()
    variables.update(by)
