"""Actors: state with one owner, typed messages, bounded mailboxes, supervision."""

from tinker_rl.actors.actor import Actor
from tinker_rl.actors.errors import (
    ActorDeadlock,
    ActorError,
    ActorFailed,
    ActorStopped,
    MailboxFull,
    UnhandledMessage,
)
from tinker_rl.actors.handlers import handler
from tinker_rl.actors.mailbox import Mailbox
from tinker_rl.actors.message import Message
from tinker_rl.actors.ref import ActorRef
from tinker_rl.actors.supervision import Escalate, Restart, RestartBudget, Stop, Supervision
from tinker_rl.actors.system import ActorSystem

__all__ = [
    "Actor",
    "ActorDeadlock",
    "ActorError",
    "ActorFailed",
    "ActorRef",
    "ActorStopped",
    "ActorSystem",
    "Escalate",
    "Mailbox",
    "MailboxFull",
    "Message",
    "Restart",
    "RestartBudget",
    "Stop",
    "Supervision",
    "UnhandledMessage",
    "handler",
]
