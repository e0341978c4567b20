"""The root of the actors of one event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Self, TypeVar, TypeVarTuple

import anyio

from tinker_rl.actors.actor import Actor
from tinker_rl.actors.cell import Owner
from tinker_rl.actors.errors import ActorError
from tinker_rl.actors.ref import ActorRef
from tinker_rl.actors.supervision import Escalate, Supervision

__all__ = ["ActorSystem"]

A = TypeVar("A", bound=Actor)
Ts = TypeVarTuple("Ts")


class ActorSystem(anyio.AsyncContextManagerMixin):
    """Owns every actor below it: an async context manager that no task of theirs outlives.

    Leaving it in order drains the actors one by one, youngest first. Leaving it by an exception or
    a cancellation cancels them. A failure that is escalated to the system cancels it, its body
    included, and comes out of the `async with` in an ExceptionGroup.

        async with ActorSystem() as system:
            counter = await system.spawn(Counter, 10)
            total = await counter.ask(Add(amount=2))
    """

    _owner: Owner | None = None

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with anyio.create_task_group() as tasks:
            self._owner = Owner(tasks, parent=None)
            try:
                yield self
                await self.stop(drain=True)
            finally:
                self._owner = None

    async def spawn(
        self,
        factory: Callable[[*Ts], A],
        *args: *Ts,
        name: str | None = None,
        mailbox: int = 64,
        supervision: Supervision = Escalate(),  # noqa: B008 - frozen
    ) -> ActorRef[A]:
        """Start an actor. Cancelled before its `on_start` has returned, there is none.

        Args:
            factory: Makes an instance, for the start and for each restart: a class or a function.
            args: What to call it with, each time.
            name: What the actor is called in its path, in logs and errors. Need not be unique.
            mailbox: Messages that may wait for the actor, besides the one it handles.
            supervision: What a failure means.
        Raises:
            Exception: what the first construction or `on_start` raised; there is no actor then.
            ActorStopped: if the system ends.
        """
        return await self._running().spawn(
            factory, *args, name=name, mailbox=mailbox, supervision=supervision
        )

    async def stop(self, *, drain: bool = False) -> None:
        """End all actors, youngest first, and wait for them. No more can be spawned.

        Cancelled, those not yet ended go on.

        Raises:
            ActorDeadlock: if a handler of one of them calls it.
        """
        await self._running().stop_all(drain=drain)

    def _running(self) -> Owner:
        if self._owner is None:
            raise ActorError(
                "ActorSystem: expected use within `async with`; got a system that is not running. "
                "Write `async with ActorSystem() as system:` around it."
            )
        return self._owner
