"""Coroutines driven in threads, each by an asyncio loop of its own."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Generic, TypeVar

import anyio
import sniffio

from tinker_rl.envs.containment import contained
from tinker_rl.futures import call_soon_in, current_loop, wait_for

__all__ = ["ThreadCall"]

T = TypeVar("T")


class ThreadCall(Generic[T]):
    """One call of a coroutine function in a thread of its own.

    The thread is a daemon: one that never returns does not keep the program from ending.

    Args:
        function: What to call.
        context: The context variables that it sees.
    """

    def __init__(self, function: Callable[[], Awaitable[T]], context: Context) -> None:
        self._function = function
        self._context = context
        self._future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._stop: Callable[[], object] | None = None

    async def result(self) -> T:
        """What the coroutine returns or raises.

        Cancelled, it abandons the thread: what that awaits is cancelled, what blocks goes on
        unheard.
        """
        self._context.run(sniffio.current_async_library_cvar.set, None)  # a new loop starts there
        work = partial(self._context.run, self._work)
        threading.Thread(target=work, name="tinker_rl environment", daemon=True).start()
        try:
            return await wait_for(self._future)
        except anyio.get_cancelled_exc_class():
            self._abandon()
            raise

    def _work(self) -> None:
        try:
            self._future.set_result(anyio.run(contained, self._main, backend="asyncio"))
        except BaseException as error:
            self._future.set_exception(error)

    async def _main(self, scope: anyio.CancelScope) -> T:
        loop = current_loop()
        with self._lock:
            self._stop = lambda: call_soon_in(loop, scope.cancel)
            if self._is_abandoned:
                scope.cancel()
        return await self._function()

    def _abandon(self) -> None:
        with self._lock:
            self._is_abandoned = True
            if self._stop is not None:
                self._stop()
