"""Messages: frozen structs that name the type of their reply."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

__all__ = ["Message", "reply_type_of"]

R_co = TypeVar("R_co", covariant=True)


class Message(msgspec.Struct, Generic[R_co], frozen=True):
    """What an actor can be asked or told; `R_co` is the type of its reply.

    A message is data only (msgspec can encode it), so that its actor may live elsewhere:

        class Add(Message[int], frozen=True):
            amount: int
    """


def reply_type_of(message_type: type[Message[Any]]) -> Any:
    """The reply that `message_type` declares, as a type annotation: `int` for `Message[int]`.

    Raises:
        TypeError: if it declares none, or names one that cannot be resolved.
    """
    for cls in message_type.__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Message:
                holder = SimpleNamespace(__annotations__={"reply": get_args(base)[0]})
                module = sys.modules.get(cls.__module__)  # None for code that was exec'ed
                try:
                    hints = get_type_hints(holder, vars(module) if module is not None else {})
                except NameError as error:
                    raise TypeError(
                        f"{cls.__qualname__}: expected a reply type that its module can name; "
                        f"got {get_args(base)[0]!r}. Import the type there, outside of "
                        f"`if TYPE_CHECKING`."
                    ) from error
                return hints["reply"]
    raise TypeError(
        f"{message_type.__qualname__}: expected a message that names its reply type; got a plain "
        f"Message. Derive it from Message[<reply type>], Message[None] if there is nothing to say."
    )
