"""Ctrl-C as an event, and errors without their wrapping."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import anyio
import anyio.abc

__all__ = ["only_error", "watch_signals"]


async def watch_signals(
    interrupt: Callable[[], None],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call `interrupt` at every Ctrl-C and request to terminate, until cancelled.

    Only the main thread gets signals; in any other, this returns at once.
    """
    if threading.current_thread() is not threading.main_thread():
        task_status.started()
        return
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            interrupt()


def only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that a group holds, however deep; the innermost group that holds more."""
    error, *others = group.exceptions
    if others:
        return group
    return only_error(error) if isinstance(error, BaseExceptionGroup) else error
