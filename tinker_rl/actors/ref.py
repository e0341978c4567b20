"""The one way to reach an actor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from tinker_rl.actors.message import Message

__all__ = ["ActorRef"]

A_co = TypeVar("A_co", covariant=True)
R = TypeVar("R")


class ActorRef(ABC, Generic[A_co]):
    """A handle on an actor of class `A_co`, wherever it lives. Good beyond its restarts.

    To be used from the event loop of the actor's system.
    """

    @property
    @abstractmethod
    def path(self) -> str:
        """Names of the actor and of those above it, as in `/learner/checkpoints`."""

    @property
    @abstractmethod
    def is_stopped(self) -> bool:
        """Whether the actor has ended, with all it owned."""

    @abstractmethod
    async def ask(self, message: Message[R]) -> R:
        """Send a message and wait for its reply.

        Cancelled before the actor began with the message, it is not handled. Cancelled later, the
        actor goes on with it to the end, and the reply is dropped.

        Returns:
            What the handler returned.
        Raises:
            Exception: whatever the handler raised.
            ActorStopped: if the actor ends, or has ended, before it answered.
            ActorFailed: if the actor failed elsewhere while it handled the message.
            ActorDeadlock: if the actor cannot answer before the caller, a handler, returns.
            UnhandledMessage: if the actor has no handler for such messages.
        """

    @abstractmethod
    async def tell(self, message: Message[Any]) -> None:
        """Send a message and wait until the mailbox has taken it in. A reply is dropped.

        Cancelled while it waits for room, the message is not sent.

        Raises:
            ActorStopped: if the actor ends, or has ended, before there was room.
            ActorDeadlock: if there cannot be room before the caller, a handler, returns.
            UnhandledMessage: if the actor has no handler for such messages.
        """

    @abstractmethod
    def tell_nowait(self, message: Message[Any]) -> None:
        """Send a message if the mailbox has room for it now.

        Raises:
            MailboxFull: if it has none, or others wait for it.
            ActorStopped: if the actor ends, or has ended.
            UnhandledMessage: if the actor has no handler for such messages.
        """

    @abstractmethod
    async def stop(self, *, drain: bool = False) -> None:
        """End the actor, and wait until it has ended. Cancelled, only the waiting ends.

        From this call on the actor takes in no message. It finishes the one it handles; messages
        that wait get ActorStopped or, with `drain`, are handled first. Then come `on_stop`, the
        end of its children (in the same manner, youngest first) and of its tasks (cancelled).
        A `stop()` hastens an earlier `stop(drain=True)`.

        Raises:
            ActorDeadlock: if the actor cannot end before the caller, a handler, returns.
        """

    @abstractmethod
    async def wait_stopped(self) -> None:
        """Wait until the actor has ended, without asking it to."""
