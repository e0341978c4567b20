"""A ref to an actor of this event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from anyio.lowlevel import checkpoint_if_cancelled

from tinker_rl.actors.envelope import Envelope
from tinker_rl.actors.ref import ActorRef
from tinker_rl.actors.waiting import acting, refuse_to_wait_for_end, refuse_to_wait_for_turn

if TYPE_CHECKING:
    from tinker_rl.actors.cell import Cell
    from tinker_rl.actors.message import Message

__all__ = ["LocalRef"]

A_co = TypeVar("A_co", covariant=True)
R = TypeVar("R")


_END_YOURSELF = "An actor ends itself with self.stop_soon()."


class LocalRef(ActorRef[A_co]):
    """Puts messages straight into the mailbox."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __repr__(self) -> str:
        return f"<ActorRef {self.path}{' (stopped)' if self.is_stopped else ''}>"

    @property
    def path(self) -> str:
        return self._cell.path

    @property
    def is_stopped(self) -> bool:
        return self._cell.has_ended

    async def ask(self, message: Message[R]) -> R:
        await checkpoint_if_cancelled()
        self._cell.check_handles(message)
        self._cell.inbox.check_open()
        refuse_to_wait_for_turn(
            self._cell,
            f"ActorRef.ask({type(message).__qualname__})",
            "Tell instead of asking, or ask from a task begun with start_soon.",
        )
        return await self._cell.inbox.send(Envelope(message, is_ask=True, asker=acting()))

    async def tell(self, message: Message[Any]) -> None:
        await checkpoint_if_cancelled()
        self._cell.check_handles(message)
        self._cell.inbox.check_open()
        if not self._cell.inbox.has_room:
            refuse_to_wait_for_turn(
                self._cell,
                f"ActorRef.tell({type(message).__qualname__}) into a full mailbox",
                "Tell from a task begun with start_soon, or give the actor a larger mailbox.",
            )
        await self._cell.inbox.send(Envelope(message, is_ask=False))

    def tell_nowait(self, message: Message[Any]) -> None:
        self._cell.check_handles(message)
        self._cell.inbox.send_nowait(Envelope(message, is_ask=False))

    async def stop(self, *, drain: bool = False) -> None:
        refuse_to_wait_for_end(self._cell, "ActorRef.stop()", _END_YOURSELF)
        self._cell.inbox.close(drain=drain)
        await self._cell.wait_ended()

    async def wait_stopped(self) -> None:
        refuse_to_wait_for_end(self._cell, "ActorRef.wait_stopped()", _END_YOURSELF)
        await self._cell.wait_ended()
