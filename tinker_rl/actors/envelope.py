"""A message on its way, and the way back for its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from tinker_rl.actors.message import Message
    from tinker_rl.actors.waiting import Waiter

__all__ = ["Envelope"]


class Envelope:
    """One `ask` or `tell`. The first answer settles it; later ones are dropped."""

    __slots__ = ("_error", "_reply", "_settled", "asker", "is_ask", "message")

    def __init__(self, message: Message[Any], *, is_ask: bool, asker: Waiter | None = None) -> None:
        self.message = message
        self.is_ask = is_ask
        self.asker = asker
        """The actor whose own task waits for the answer; None if none does, or no longer."""
        self._settled = anyio.Event()
        self._reply: Any = None
        self._error: Exception | None = None

    def admit(self) -> None:
        """The mailbox took the message in, which is all that a `tell` waits for."""
        if not self.is_ask:
            self._settled.set()

    def answer(self, reply: Any) -> None:
        """Settle an `ask` with the handler's reply."""
        if not self._settled.is_set():
            self._reply = reply
            self._settled.set()

    def fail(self, error: Exception) -> None:
        """Settle with an error; of no effect on a `tell` that was admitted."""
        if not self._settled.is_set():
            self._error = error
            self._settled.set()

    async def wait(self) -> Any:
        """The reply, once there is one. To be called once.

        Raises:
            Exception: what it was settled with, if that was an error.
        """
        await self._settled.wait()
        error, self._error = self._error, None
        if error is None:
            return self._reply
        try:
            raise error
        finally:
            del error  # a cycle of error, traceback and frame would keep the message alive
