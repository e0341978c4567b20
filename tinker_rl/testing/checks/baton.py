"""Whose turn it is: the members of a group act in an order that is fixed, not raced for."""

from __future__ import annotations

from typing import Literal, TypeAlias

import anyio

__all__ = ["Baton", "Order"]

Order: TypeAlias = Literal["serial", "interleaved", "free"]
"""One member after the other; a call of each in turn; as the event loop has it."""


class Baton:
    """Passed from member to member; who holds it may call its environment.

    Args:
        order: In which order it goes round.
        size: Members.
    """

    def __init__(self, order: Order, size: int) -> None:
        self._order = order
        self._present = list(range(size))
        self._holder = 0
        self._passed = anyio.Event()

    async def take(self, member: int) -> None:
        """Wait until it is the member's turn."""
        while self._order != "free" and self._holder != member:
            await self._passed.wait()

    def pass_on(self, member: int) -> None:
        """After a call: the next in turn, if there are turns."""
        if self._order == "interleaved" and self._holder == member:
            self._give(self._after(member))

    def leave(self, member: int) -> None:
        """At the end of the member's episode."""
        following = self._after(member)
        self._present.remove(member)
        if self._holder == member:
            self._give(following)

    def _after(self, member: int) -> int:
        place = self._present.index(member)
        return self._present[(place + 1) % len(self._present)]

    def _give(self, holder: int) -> None:
        self._holder = holder
        passed, self._passed = self._passed, anyio.Event()
        passed.set()
