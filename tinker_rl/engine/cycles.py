"""In which order the requests of several models are carried out. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["ClockCycles"]

T = TypeVar("T")


class ClockCycles(Generic[T]):
    """One ordered mailbox a model, emptied in clock cycles.

    A cycle visits every model that has requests, one after the other, and at each carries out what
    is there and what arrives meanwhile: so a `forward_backward` and an `optim_step` that were
    queued back to back fall into one cycle. At most `max_per_visit` requests of one model are
    carried out before the next has its turn (one more, when it is `joined` to the last), and none
    has two turns in a row while others wait: none starves.
    """

    def __init__(
        self, max_per_visit: int = 64, joined: Callable[[T], bool] = lambda item: False
    ) -> None:
        """
        Args:
            joined: Whether an item should share the cycle of the one queued before it.
        """
        self._mailboxes: dict[str, deque[T]] = {}
        self._max_per_visit = max_per_visit
        self._joined = joined
        self._to_visit: deque[str] = deque()
        self._here: str | None = None
        self._served = 0
        self.cycle = 0
        """Number of the present cycle; the first is 1."""

    def put(self, model: str, item: T) -> None:
        """Queue an item behind those of the same model."""
        self._mailboxes.setdefault(model, deque()).append(item)

    def __len__(self) -> int:
        """Items that wait."""
        return sum(map(len, self._mailboxes.values()))

    def next(self) -> T | None:
        """Take the next item; a new cycle begins where the last is over. None if none waits."""
        if self._here is not None and self._may_stay(self._here):
            item = self._take(self._here)
            if item is not None:
                return item
        while self._to_visit:
            self._here, self._served = self._to_visit.popleft(), 0
            item = self._take(self._here)
            if item is not None:
                return item
        last, self._here = self._here, None
        waiting = [model for model, mailbox in self._mailboxes.items() if mailbox]
        if not waiting:
            return None
        if last in waiting:  # whoever was served last goes last
            waiting.remove(last)
            waiting.append(last)
        self.cycle += 1
        self._to_visit = deque(waiting)
        return self.next()

    def _may_stay(self, model: str) -> bool:
        if self._served != self._max_per_visit:
            return self._served < self._max_per_visit
        mailbox = self._mailboxes.get(model)
        return bool(mailbox) and self._joined(mailbox[0])

    def _take(self, model: str) -> T | None:
        mailbox = self._mailboxes.get(model)
        if not mailbox:
            self._mailboxes.pop(model, None)
            return None
        self._served += 1
        return mailbox.popleft()
