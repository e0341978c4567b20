"""The order in which an actor meets its messages: pure state, no waiting."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded queue, and the line of those who wait for room in it. First come, first served.

    An item is a sender's handle on its message, hashed by identity. It waits in line, then lies in
    the queue, then is taken; or it is withdrawn or cleared out before that. Nobody enters the queue
    past the line, so items are taken in the order in which they were offered.
    """

    def __init__(self, capacity: int, on_admitted: Callable[[T], None]) -> None:
        """
        Args:
            capacity: Items that the queue holds. With 0 an item leaves the line when it is taken.
            on_admitted: Called, within `take` and `withdraw`, for an item that had to wait in line
                and has left it. It must not call back into the mailbox.
        """
        if capacity < 0:
            raise ValueError(
                f"Mailbox: expected a capacity of 0 or more; got {capacity}. "
                f"Pass the number of messages that may wait."
            )
        self._capacity = capacity
        self._on_admitted = on_admitted
        self._queue: OrderedDict[T, None] = OrderedDict()
        self._line: OrderedDict[T, None] = OrderedDict()
        self._is_open = True

    @property
    def capacity(self) -> int:
        """Items that the queue may hold."""
        return self._capacity

    @property
    def num_queued(self) -> int:
        """Items in the queue: 0 <= num_queued <= capacity."""
        return len(self._queue)

    @property
    def num_in_line(self) -> int:
        """Items that wait for room."""
        return len(self._line)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._queue and not self._line

    @property
    def is_open(self) -> bool:
        """Whether items may be offered."""
        return self._is_open

    @property
    def has_room(self) -> bool:
        """Whether an item offered now would enter the queue at once. Not while others wait."""
        return self._is_open and len(self._queue) < self._capacity  # the line fills it at once

    def offer(self, item: T) -> bool:
        """Take an item in; True if it is in the queue, False if it waits in line for room."""
        assert self._is_open
        has_room = self.has_room
        (self._queue if has_room else self._line)[item] = None
        return has_room

    def take(self) -> T | None:
        """The oldest item, which thereby leaves; None if there is none."""
        if self._queue:
            item, _ = self._queue.popitem(last=False)
            self._admit()
            return item
        if self._line:  # only with a capacity of 0
            item, _ = self._line.popitem(last=False)
            self._on_admitted(item)
            return item
        return None

    def withdraw(self, item: T) -> bool:
        """Remove an item that was not taken yet; False if it is not here."""
        if item in self._line:
            del self._line[item]
            return True
        if item in self._queue:
            del self._queue[item]
            self._admit()
            return True
        return False

    def close(self) -> None:
        """Refuse further offers. What is here stays."""
        self._is_open = False

    def clear(self) -> list[T]:
        """Remove and return all items, oldest first."""
        items = [*self._queue, *self._line]
        self._queue.clear()
        self._line.clear()
        return items

    def _admit(self) -> None:
        while self._line and len(self._queue) < self._capacity:
            item, _ = self._line.popitem(last=False)
            self._queue[item] = None
            self._on_admitted(item)
