"""Who may sample next: a bounded number of requests, those of the oldest groups first."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import TypeAlias

import anyio
import anyio.lowlevel

from tinker_rl.errors import RequestError
from tinker_rl.policies.adaptive_limit import Limit

__all__ = ["Priority", "SamplerGate", "Slot"]

Priority: TypeAlias = tuple[int, ...]
"""Lowest first: (group, member), so that the group that the learner needs next is sampled first."""


class Slot:
    """The right to one request at the sampler."""

    def __init__(self) -> None:
        self.num_tokens = 0
        """Tokens that were sampled, to be set by its holder."""


class _Waiter:
    """Someone in the queue."""

    def __init__(self) -> None:
        self.woken = anyio.Event()
        self.has_slot = False
        self.gave_up = False


class SamplerGate:
    """Grants the slots at a sampler in order of priority; equal ones in the order they came.

    For the tasks of one event loop. Who waits costs a place in a heap and nothing else.

    Args:
        limit: How many slots there are, which may change with what the requests report.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._queue: list[tuple[Priority, int, _Waiter]] = []
        self._arrivals = count()
        self._num_gave_up = 0
        """Of those in the queue, who are passed over when their turn comes."""
        self._num_in_flight = 0

    @property
    def limit(self) -> int:
        """Slots at present; more may be taken for a while after it was lowered."""
        return self._limit.value

    @property
    def num_in_flight(self) -> int:
        """Slots that are taken."""
        return self._num_in_flight

    @property
    def num_waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._queue) - self._num_gave_up

    @asynccontextmanager
    async def slot(self, priority: Priority) -> AsyncGenerator[Slot]:
        """Hold a slot for the length of the block, once it is this priority's turn.

        What leaves the block tells how the sampler did: set `num_tokens` of the slot at its end.
        An error counts as the sampler's fault unless it is the request's (`RequestError`).
        Cancelled, waiting or inside, it gives the slot to the next.
        """
        await self._acquire(priority)
        mark, began_at = self._limit.started(), anyio.current_time()
        slot = Slot()
        try:
            yield slot
        except RequestError:
            raise
        except Exception:
            self._limit.failed(mark)
            raise
        else:
            self._limit.finished(
                mark,
                num_tokens=slot.num_tokens,
                seconds=anyio.current_time() - began_at,
                num_in_flight=self._num_in_flight,
            )
        finally:
            self._release()

    async def _acquire(self, priority: Priority) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()
        if not self.num_waiting and self._num_in_flight < self._limit.value:
            self._num_in_flight += 1
            return
        waiter = _Waiter()
        heapq.heappush(self._queue, (priority, next(self._arrivals), waiter))
        try:
            await waiter.woken.wait()
        except BaseException:
            self._release() if waiter.has_slot else self._give_up(waiter)
            raise

    def _release(self) -> None:
        self._num_in_flight -= 1
        while self._num_in_flight < self._limit.value and self._queue:
            _, _, waiter = heapq.heappop(self._queue)
            if waiter.gave_up:
                self._num_gave_up -= 1
                continue
            self._num_in_flight += 1
            waiter.has_slot = True
            waiter.woken.set()

    def _give_up(self, waiter: _Waiter) -> None:
        """Pass over a waiter; once they are most of the queue, it is made anew without them."""
        waiter.gave_up = True
        self._num_gave_up += 1
        if 2 * self._num_gave_up > len(self._queue):
            self._queue = [entry for entry in self._queue if not entry[2].gave_up]
            heapq.heapify(self._queue)
            self._num_gave_up = 0
