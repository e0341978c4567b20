"""Seeing code that waits without awaiting, and so holds up the event loop."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any

__all__ = ["LONGEST_SLEEP", "SleepWatch"]

LONGEST_SLEEP = 0.1
"""Seconds for which a call may hold up the event loop."""


class SleepWatch:
    """Awaits a coroutine, and notes how long it held up the event loop without computing.

    Args:
        coroutine: What is awaited.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self.seconds = 0.0
        """The longest such time that is worth a word; 0 if there was none."""

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._coroutine.__await__()
        step = partial(steps.send, None)
        while True:
            wall, computed = time.monotonic(), time.thread_time()
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            finally:
                self._note(time.monotonic() - wall, time.thread_time() - computed)
            try:
                step = partial(steps.send, (yield waits_for))
            except BaseException as error:  # a cancellation, say, which is the coroutine's to see
                step = partial(steps.throw, error)

    def _note(self, held: float, computed: float) -> None:
        if held > LONGEST_SLEEP and computed < held / 2:
            self.seconds = max(self.seconds, held)
