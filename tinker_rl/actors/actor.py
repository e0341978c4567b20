"""The base class of actors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Protocol, Self, TypeVar, TypeVarTuple

from tinker_rl.actors.errors import ActorError
from tinker_rl.actors.handlers import HandlerTable, collect_handlers
from tinker_rl.actors.ref import ActorRef
from tinker_rl.actors.supervision import Escalate, Supervision

__all__ = ["Actor", "ActorContext"]

A = TypeVar("A", bound="Actor")
Ts = TypeVarTuple("Ts")


class ActorContext(Protocol):
    """What the runtime lends to one incarnation of an actor."""

    @property
    def ref(self) -> ActorRef[Any]: ...

    def start_soon(
        self, function: Callable[[*Ts], Coroutine[Any, Any, Any]], *args: *Ts
    ) -> None: ...

    def stop_soon(self, *, drain: bool) -> None: ...

    async def spawn(
        self,
        factory: Callable[[*Ts], A],
        *args: *Ts,
        name: str | None,
        mailbox: int,
        supervision: Supervision,
    ) -> ActorRef[A]: ...


class Actor:
    """State with one owner: it is touched by the handlers alone, one message at a time.

    Derive from it, mark handlers with `@handler`, and start it with `spawn`. An incarnation is one
    instance, from `on_start` to `on_stop`; a restart begins a new one with the same arguments.
    """

    reply_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors that are an answer: raised in an `ask` they reach the asker and are no failure."""
    stop_seconds: ClassVar[float] = 5.0
    """The longest that `on_stop` may take."""

    __handlers__: ClassVar[HandlerTable] = {}
    __context__: ActorContext | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__handlers__ = collect_handlers(cls)

    async def on_start(self) -> None:
        """Called before the first message of an incarnation. Raising, it must clean up itself."""

    async def on_stop(self) -> None:
        """Called once for each incarnation whose `on_start` returned, whatever ended it.

        Children and tasks still live, unless a cancellation or a failure of one of them is what
        ended it. It is shielded from cancellation, and cancelled after `stop_seconds`.
        """

    @property
    def ref(self) -> ActorRef[Self]:
        """The actor's own ref, to be given to others; it outlives a restart, `self` does not."""
        return self._lent().ref

    def start_soon(self, function: Callable[[*Ts], Coroutine[Any, Any, Any]], *args: *Ts) -> None:
        """Start a task beside the handlers. It is cancelled when the incarnation ends.

        An exception in it is a failure of the actor.
        """
        self._lent().start_soon(function, *args)

    async def spawn(
        self,
        factory: Callable[[*Ts], A],
        *args: *Ts,
        name: str | None = None,
        mailbox: int = 64,
        supervision: Supervision = Escalate(),  # noqa: B008 - frozen
    ) -> ActorRef[A]:
        """Start a child, as `ActorSystem.spawn` does. It ends with this incarnation, or before."""
        return await self._lent().spawn(
            factory, *args, name=name, mailbox=mailbox, supervision=supervision
        )

    def stop_soon(self, *, drain: bool = False) -> None:
        """What `ref.stop` does, without waiting for it: the way for an actor to end itself."""
        self._lent().stop_soon(drain=drain)

    def _lent(self) -> ActorContext:
        if self.__context__ is None:
            raise ActorError(
                f"{type(self).__qualname__}: expected a started actor; got one that is not. "
                f"Start it with spawn, and use ref, spawn and start_soon from on_start on."
            )
        return self.__context__
