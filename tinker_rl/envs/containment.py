"""A user's code in a task of its own, so that what it leaves open breaks nobody else."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

__all__ = ["CancelledInsideError", "LeakedTaskError", "OutOfTimeError", "contained"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class OutOfTimeError(Exception):
    """The deadline of the scope that `contained` gave has passed."""


class LeakedTaskError(RuntimeError):
    """A task group or a cancel scope was entered and never left."""


class CancelledInsideError(RuntimeError):
    """A cancellation that nobody outside asked for."""


async def contained(function: Callable[[anyio.CancelScope], Awaitable[T]]) -> T:
    """Run `function(scope)` in a task of its own, all of whose time is bounded by `scope`.

    Event loops keep what a task has entered on a stack of the task; when the task ends, whatever
    was left there would take down its task group. Here it ends with the task that left it: what
    runs in it is cancelled, not waited for. Cancelled, it waits for `function` to end.

    Args:
        function: What it raises is raised here, outside the task group.
    Raises:
        OutOfTimeError: if the scope's deadline passed, whatever `function` made of that.
        LeakedTaskError: if it left a task group or a cancel scope open.
        CancelledInsideError: if it was cancelled from within.
    """
    call = _Call(function)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.run)
    except BaseExceptionGroup as group:
        if not call.has_leaked:
            raise
        others = group.split(RuntimeError)[1]  # the loop's own complaint of what was left open
        if others is not None:
            raise others from None
    return await call.result()


class _Call(Generic[T]):
    def __init__(self, function: Callable[[anyio.CancelScope], Awaitable[T]]) -> None:
        self._function = function
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._has_expired = False
        self.has_leaked = False

    async def run(self) -> None:
        try:
            with anyio.CancelScope() as scope:
                try:
                    self._results.append(await self._function(scope))
                except (Exception, SystemExit) as error:
                    self._error = error
                finally:
                    self._has_expired = scope.cancel_called
                    scope.cancel()  # whatever was left open inside
        except RuntimeError as error:  # the scope was not the innermost any more
            logger.debug("A task group or a cancel scope was left open", exc_info=error)
            self.has_leaked = True

    async def result(self) -> T:
        if self._has_expired:
            raise OutOfTimeError
        if self.has_leaked:
            raise LeakedTaskError(
                "expected every task group and cancel scope to be left by the code that entered "
                "it; got one that is still open. Use `async with` and `with`, or leave it at the "
                "end of the episode"
            )
        if self._error is not None:
            raise self._error
        if not self._results:
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise CancelledInsideError("the call was cancelled from inside")
        return self._results[0]
