"""What can go wrong between a caller and an actor, other than the errors of a handler."""

from __future__ import annotations

from tinker_rl.errors import TinkerRLError

__all__ = [
    "ActorDeadlock",
    "ActorError",
    "ActorFailed",
    "ActorStopped",
    "MailboxFull",
    "UnhandledMessage",
]


class ActorError(TinkerRLError):
    """An error of the actor runtime, not of a handler."""


class ActorStopped(ActorError):
    """The actor ends or has ended, and the message has no answer.

    Its cause, if it has one, is the failure that ended the actor.
    """


class ActorFailed(ActorError):
    """The actor failed elsewhere (a child, a task it owns) while it handled the message.

    The failure is the cause. The actor may have been restarted since.
    """


class ActorDeadlock(ActorError, RuntimeError):
    """The actor that would have to act waits, itself, for the caller."""


class MailboxFull(ActorError):
    """No room now, and the caller did not want to wait for it, or would have waited for ever."""


class UnhandledMessage(ActorError, TypeError):
    """The actor's class has no handler for messages of this type. Nothing was sent."""
