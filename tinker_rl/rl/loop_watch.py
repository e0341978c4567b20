"""Notices code that holds up the event loop, and with it every other environment."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

__all__ = ["LoopWatch"]

INTERVAL_SECONDS = 0.25
WARN_SECONDS = 1.0


class LoopWatch:
    """Measures by how much a task wakes too late.

    Args:
        say: Shows a line to the user; called once at most.
        now: Gives the time, in seconds.
    """

    def __init__(self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic):
        self._say = say
        self._now = now
        self._longest = 0.0
        self._has_warned = False

    async def serve(self) -> None:
        """Watch until cancelled."""
        while True:
            began = self._now()
            await anyio.sleep(INTERVAL_SECONDS)
            self.woke_late(self._now() - began - INTERVAL_SECONDS)

    def woke_late(self, seconds: float) -> None:
        """Take in one measurement."""
        self._longest = max(self._longest, seconds)
        if seconds >= WARN_SECONDS and not self._has_warned:
            self._has_warned = True
            self._say(
                f"the event loop was held up for {seconds:.1f} s, and all environments with it: "
                "code that blocks (time.sleep, heavy grading, a synchronous client) belongs into "
                "an environment with runs_in = 'thread' or 'process', see docs/environments.md"
            )

    def longest(self) -> float:
        """The longest since this was asked last, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest
