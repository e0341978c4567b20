"""What a class of actors is checked for when it is made."""

import functools
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from tinker_rl.actors import Actor, Message, handler
from tinker_rl.actors.handlers import collect_handlers, handler_for
from tinker_rl.actors.message import reply_type_of

T = TypeVar("T")


class Add(Message[int], frozen=True):
    amount: int


class AddTwice(Add, frozen=True):
    times: int = 2


class Reset(Message[None], frozen=True):
    pass


class Mutable(Message[int], frozen=False):
    pass


class Silent(Message, frozen=True):
    pass


class Lost(Message["Nowhere"], frozen=True):
    pass


class Later(Message["Add"], frozen=True):
    pass


class Whatever(Message[Any], frozen=True):
    pass


class Generic_(Message[T], Generic[T], frozen=True):
    value: int


class Counter(Actor):
    @handler
    async def add(self, message: Add) -> int:
        return message.amount

    @handler
    async def reset(self, message: Reset) -> None:
        pass


def test_the_table_holds_every_handler_by_message_type():
    assert collect_handlers(Counter) == {Add: "add", Reset: "reset"}


def test_a_message_goes_to_the_handler_of_its_nearest_base():
    class Both(Counter):
        @handler
        async def add_twice(self, message: AddTwice) -> int:
            return message.amount * message.times

    assert handler_for(collect_handlers(Counter), AddTwice) == "add"
    assert handler_for(collect_handlers(Both), AddTwice) == "add_twice"
    assert handler_for(collect_handlers(Both), Add) == "add"
    assert handler_for(collect_handlers(Both), Later) is None


def test_a_subclass_replaces_a_handler_of_the_same_name():
    class Narrow(Counter):
        @handler
        async def add(self, message: AddTwice) -> int:
            return 0

    assert collect_handlers(Narrow) == {AddTwice: "add", Reset: "reset"}


def test_a_handler_may_return_a_subclass_of_the_reply_or_anything_for_any():
    class Fine(Actor):
        @handler
        async def add(self, message: Add) -> bool:
            return True

        @handler
        async def whatever(self, message: Whatever) -> list[int]:
            return []

        @handler
        async def later(self, message: Later) -> Add:
            return Add(1)

    assert set(collect_handlers(Fine)) == {Add, Whatever, Later}


def test_the_reply_type_is_found_through_bases_and_forward_references():
    assert reply_type_of(AddTwice) is int
    assert reply_type_of(Reset) is type(None)
    assert reply_type_of(Later) is Add
    assert reply_type_of(Generic_) is T


def not_async():
    class Bad(Actor):
        @handler
        def add(self, message: Add) -> int:
            return 0


def wrapped_by_something_not_async():
    class Bad(Actor):
        @handler
        @functools.lru_cache  # noqa: B019
        def add(self, message: Add) -> int:
            return 0


def no_parameter():
    class Bad(Actor):
        @handler
        async def add(self) -> int:
            return 0


def two_parameters():
    class Bad(Actor):
        @handler
        async def add(self, message: Add, more: int) -> int:
            return 0


def keyword_parameter():
    class Bad(Actor):
        @handler
        async def add(self, *, message: Add) -> int:
            return 0


def no_annotation():
    class Bad(Actor):
        @handler
        async def add(self, message) -> int:
            return 0


def no_return_annotation():
    class Bad(Actor):
        @handler
        async def add(self, message: Add):
            return 0


def not_a_message():
    class Bad(Actor):
        @handler
        async def add(self, message: int) -> int:
            return 0


def a_union_of_messages():
    class Bad(Actor):
        @handler
        async def add(self, message: Add | Reset) -> int:
            return 0


def a_local_name():
    class Bad(Actor):
        @handler
        async def add(self, message: "Elsewhere") -> int:  # noqa: F821
            return 0


def a_mutable_message():
    class Bad(Actor):
        @handler
        async def add(self, message: Mutable) -> int:
            return 0


def a_silent_message():
    class Bad(Actor):
        @handler
        async def add(self, message: Silent) -> int:
            return 0


def a_reply_nobody_can_name():
    class Bad(Actor):
        @handler
        async def add(self, message: Lost) -> int:
            return 0


def another_reply():
    class Bad(Actor):
        @handler
        async def add(self, message: Add) -> str:
            return ""


def two_handlers():
    class Bad(Actor):
        @handler
        async def add(self, message: Add) -> int:
            return 0

        @handler
        async def plus(self, message: Add) -> int:
            return 0


def one_inherited():
    class Bad(Counter):
        @handler
        async def plus(self, message: Add) -> int:
            return 0


def unmarked_override():
    class Bad(Counter):
        async def add(self, message: Add) -> int:
            return 0


@pytest.mark.parametrize(
    ("define", "rule"),
    [
        (not_async, "expected an `async def` method"),
        (wrapped_by_something_not_async, "expected an `async def` method"),
        (no_parameter, "expected one parameter beside self"),
        (two_parameters, "expected one parameter beside self"),
        (keyword_parameter, "expected one parameter beside self"),
        (no_annotation, "expected an annotated parameter"),
        (no_return_annotation, "expected an annotated return value"),
        (not_a_message, "expected a subclass of Message"),
        (a_union_of_messages, "expected a subclass of Message"),
        (a_local_name, "expected annotations that its module can name"),
        (a_mutable_message, "expected a frozen message"),
        (a_silent_message, "expected a message that names its reply type"),
        (a_reply_nobody_can_name, "expected a reply type that its module can name"),
        (another_reply, "expected the reply type of Add"),
        (two_handlers, "expected one handler for Add; got add and plus"),
        (one_inherited, "expected one handler for Add; got"),
        (unmarked_override, "expected @handler on the method that replaces a handler"),
    ],
)
def test_a_wrong_handler_is_refused_when_the_class_is_made(define, rule):
    with pytest.raises(TypeError) as caught:
        define()
    assert rule in str(caught.value)
    assert (
        "Nowhere" in str(caught.value)
        or "Bad" in str(caught.value)
        or "Silent" in str(caught.value)
    )


def test_messages_are_data_that_msgpack_carries():
    message = AddTwice(amount=3)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=AddTwice) == message
