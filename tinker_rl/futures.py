"""One future for plain threads, trio and asyncio.

A waiter costs no thread: a thread blocks on the `concurrent.futures.Future` inside, a coroutine
sleeps on an `anyio.Event` of its own loop, which whoever completes the future sets from outside.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

__all__ = ["APIFuture", "Promise", "call_soon_in", "current_loop", "wait_for"]

T = TypeVar("T")
R = TypeVar("R")

_lock = threading.Lock()
"""Guards the counts of waiters of all futures."""


def current_loop() -> Any:
    """The native handle (trio token or asyncio loop) of the event loop that runs this task."""
    return anyio.lowlevel.current_token().native_token


def call_soon_in(loop: Any, function: Callable[[], object]) -> bool:
    """Run `function` in `loop` (see `current_loop`) from any thread, without waiting for it.

    Returns:
        False when that loop has ended, and with it whoever waited there.
    """
    soon = getattr(loop, "run_sync_soon", None) or loop.call_soon_threadsafe
    try:
        soon(function)
    except RuntimeError:  # trio.RunFinishedError is one too
        return False
    return True


async def wait_for(future: concurrent.futures.Future[T]) -> T:
    """The result of `future`, waited for without a thread. Cancelled, the future goes on."""
    if not future.done():
        done = anyio.Event()
        loop = current_loop()
        future.add_done_callback(lambda _: call_soon_in(loop, done.set))
        await done.wait()
    else:
        await anyio.lowlevel.checkpoint()
    return future.result()


class APIFuture(Generic[T]):
    """The result of a request that already has its place in the queue.

    `future.result()` blocks a thread; `await future` waits in trio or asyncio; both may be done
    any number of times, by any number of waiters. When an await is cancelled, a training request
    goes on (its place in the order counts) and a sample that nobody else waits for is cancelled in
    the sampler.
    """

    def __init__(
        self,
        future: concurrent.futures.Future[T],
        on_abandon: Callable[[], None] | None = None,
    ) -> None:
        self._future = future
        self._on_abandon = on_abandon
        self._waiters = 0

    def result(self, timeout: float | None = None) -> T:
        """Block until the result is there.

        Args:
            timeout: Longest wait in seconds; None waits for ever.
        Raises:
            TimeoutError: if it is not there in time; the request goes on.
        """
        self._count_waiters(1)
        try:
            return self._future.result(timeout)
        finally:
            self._count_waiters(-1)

    async def result_async(self, timeout: float | None = None) -> T:
        """Wait for the result in an event loop; see `result`. Timed out, it is as if cancelled."""
        if self._future.done():
            await anyio.lowlevel.checkpoint()
            return self._future.result()
        self._count_waiters(1)
        try:
            with anyio.fail_after(timeout):
                return await wait_for(self._future)
        except (anyio.get_cancelled_exc_class(), TimeoutError):
            alone = self._count_waiters(0) == 1
            if alone and self._on_abandon is not None and not self._future.done():
                self._on_abandon()
            raise
        finally:
            self._count_waiters(-1)

    def _count_waiters(self, more: int) -> int:
        with _lock:
            self._waiters += more
            return self._waiters

    def __await__(self) -> Generator[Any, Any, T]:
        return self.result_async().__await__()

    async def coroutine(self) -> T:
        """The future as a coroutine, for functions that take nothing else."""
        return await self

    def on_abandon(self, function: Callable[[], None]) -> None:
        """Call `function` when the last await of this future is cancelled before its end."""
        self._on_abandon = function

    def done(self) -> bool:
        """Whether the result, or the error, is there."""
        return self._future.done()

    def future(self) -> concurrent.futures.Future[T]:
        """The standard library's future of the same result, for code that waits on these."""
        return self._future

    def map(self, function: Callable[[T], R]) -> APIFuture[R]:
        """A future of `function(result)`; runs in whichever thread completes this one."""
        mapped: Promise[R] = Promise(self._on_abandon)
        waiting = [mapped]

        def complete(source: concurrent.futures.Future[T]) -> None:
            mapped = waiting.pop()  # a future keeps its callbacks: they must not keep the result
            try:
                mapped.resolve(function(source.result()))
            except BaseException as error:
                mapped.fail(error)

        self._future.add_done_callback(complete)
        return mapped.future


class Promise(Generic[T]):
    """The end of an `APIFuture` that is kept: set once, later settings are ignored.

    The first one wins, since a request may be answered and cancelled at the same moment.
    """

    def __init__(self, on_abandon: Callable[[], None] | None = None) -> None:
        self._future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._future.set_running_or_notify_cancel()  # cancel() of the inner future has no effect
        self.future = APIFuture(self._future, on_abandon)

    def resolve(self, value: T) -> None:
        """Give the result."""
        self._settle(lambda: self._future.set_result(value))

    def fail(self, error: BaseException) -> None:
        """Give the error."""
        self._settle(lambda: self._future.set_exception(error))

    @property
    def settled(self) -> bool:
        """Whether the result or the error was given."""
        return self._future.done()

    def _settle(self, give: Callable[[], None]) -> None:
        try:
            give()
        except concurrent.futures.InvalidStateError:
            return
