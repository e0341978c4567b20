"""`@handler`, and the table of handlers that a class of actors is checked for when it is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from tinker_rl.actors.message import Message, reply_type_of

__all__ = ["collect_handlers", "handler", "handler_for"]

A = TypeVar("A")
M = TypeVar("M", bound=Message[Any])
R = TypeVar("R")

_MARK = "__tinker_rl_handler__"

HandlerTable = Mapping[type[Message[Any]], str]
"""Name of the method that handles each type of message."""


def handler(
    method: Callable[[A, M], Coroutine[Any, Any, R]],
) -> Callable[[A, M], Coroutine[Any, Any, R]]:
    """Mark an `async def` method as the handler of the messages its parameter is annotated with.

    The rest (async, one annotated parameter, a return annotation that is the message's reply type,
    one handler to a message type) is checked when the class of the actor is made.
    """
    setattr(method, _MARK, True)
    return method


def collect_handlers(actor_type: type) -> HandlerTable:
    """The handlers of a class and of its bases, by message type.

    Raises:
        TypeError: if a handler breaks a rule; the message names the handler and the rule.
    """
    methods: dict[str, list[Any]] = {}
    for cls in actor_type.__mro__:
        for name, member in vars(cls).items():
            methods.setdefault(name, []).append(member)

    table: dict[type[Message[Any]], str] = {}
    for name, (method, *overridden) in methods.items():
        where = f"{actor_type.__qualname__}.{name}"
        if not _is_marked(method):
            if any(_is_marked(other) for other in overridden):
                raise TypeError(
                    f"{where}: expected @handler on the method that replaces a handler; got none. "
                    f"Mark it, or give it another name."
                )
            continue
        message_type = _checked_message_type(where, method)
        if message_type in table:
            raise TypeError(
                f"{where}: expected one handler for {message_type.__qualname__}; got "
                f"{table[message_type]} and {name}. Keep one (a subclass replaces a handler by "
                f"defining a method of the same name)."
            )
        table[message_type] = name
    return MappingProxyType(table)


def handler_for(table: HandlerTable, message_type: type[Any]) -> str | None:
    """Name of the handler for a message type: its own, else that of its nearest base; or None."""
    for cls in message_type.__mro__:
        if cls in table:
            return table[cls]
    return None


def _is_marked(member: object) -> bool:
    return getattr(member, _MARK, False) is True


def _checked_message_type(where: str, method: Any) -> type[Message[Any]]:
    if not inspect.iscoroutinefunction(method):
        raise TypeError(
            f"{where}: expected an `async def` method; got {method!r}. Write `async def`, with "
            f"@handler as the outermost decorator."
        )
    parameters = list(inspect.signature(method).parameters.values())[1:]
    if len(parameters) != 1 or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise TypeError(
            f"{where}: expected one parameter beside self, the message; got {len(parameters)}. "
            f"Put what the handler needs into the message."
        )
    try:
        hints = get_type_hints(method)
    except NameError as error:
        raise TypeError(
            f"{where}: expected annotations that its module can name; got one it cannot ({error}). "
            f"Define the message at module level, and import types outside of `if TYPE_CHECKING`."
        ) from error
    for name, what in ((parameters[0].name, "parameter"), ("return", "return value")):
        if name not in hints:
            raise TypeError(
                f"{where}: expected an annotated {what}; got none. Annotate the {what} with the "
                f"{'message' if what == 'parameter' else 'reply'} type."
            )
    message_type, reply = hints[parameters[0].name], hints["return"]
    if not (isinstance(message_type, type) and issubclass(message_type, Message)):
        raise TypeError(
            f"{where}: expected a subclass of Message as parameter; got {message_type!r}. "
            f"Annotate the parameter with one message class."
        )
    if not message_type.__struct_config__.frozen:
        raise TypeError(
            f"{where}: expected a frozen message; got {message_type.__qualname__}, which is not. "
            f"Remove frozen=False."
        )
    declared = reply_type_of(message_type)
    if not _is_a(reply, declared):
        raise TypeError(
            f"{where}: expected the reply type of {message_type.__qualname__}, {declared!r}, as "
            f"return annotation; got {reply!r}. Make the two agree."
        )
    return message_type


def _is_a(reply: Any, declared: Any) -> bool:
    """Whether a return annotation keeps what the message promises, as far as can be said here."""
    if declared is Any or reply == declared:
        return True
    return isinstance(reply, type) and isinstance(declared, type) and issubclass(reply, declared)
