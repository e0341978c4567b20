"""Which threads are at work; those that wait in a pool for the next call are not."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as thread_pools
from types import CodeType, FrameType
from weakref import WeakSet

__all__ = ["Executors", "executors", "threads_at_work"]

Executors = Collection[ThreadPoolExecutor]

_WORKER: CodeType = thread_pools._worker.__code__  # pyright: ignore

_known: WeakSet[ThreadPoolExecutor] = WeakSet()


def executors() -> Executors:
    """The pools of threads that there are now: what is played next need not shut them down.

    Call it before each `gc.freeze`, too: what is frozen is not looked through again.
    """
    for one in gc.get_objects():
        if issubclass(type(one), ThreadPoolExecutor):
            _known.add(one)
    return _known


def threads_at_work(kept: Executors) -> dict[int, str]:
    """The names of those threads that do not wait in a pool, by identifier.

    Args:
        kept: Of other pools than these, threads that wait are listed, too: somebody should have
            shut them down.
    """
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
    return {
        thread.ident: f"{thread.name!r}"
        for thread in threading.enumerate()
        if thread.ident is not None
        and not thread.name.startswith("asyncio-waitpid")  # the process itself is found
        and not _is_idle(frames.get(thread.ident), kept)
    }


def _is_idle(frame: FrameType | None, kept: Executors) -> bool:
    """Whether a thread waits for the next call, in the cache of an event loop or in a pool."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.endswith("_thread_cache.py") and code.co_name == "_work":
            return True
        if code is _WORKER:
            return frame.f_locals["executor_reference"]() in kept
        if code.co_name not in ("acquire", "wait", "get"):
            return False
        frame = frame.f_back
    return False
