"""Which turns of a conversation are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from tinker_rl.errors import RequestError, choices
from tinker_rl.renderers.messages import Message

__all__ = ["ASSISTANT_MODES", "TrainOnWhat", "as_train_on_what", "trained_messages"]

_WHERE = "build_supervised_example"


class TrainOnWhat(StrEnum):
    """Which turns of a conversation carry weight."""

    LAST_ASSISTANT_MESSAGE = "last_assistant_message"
    LAST_ASSISTANT_TURN = "last_assistant_turn"
    """Every assistant message after the last user message."""
    ALL_ASSISTANT_MESSAGES = "all_assistant_messages"
    ALL_MESSAGES = "all_messages"
    """Every message, without headers."""
    ALL_TOKENS = "all_tokens"
    """Every token, headers included."""
    ALL_USER_AND_SYSTEM_MESSAGES = "all_user_and_system_messages"
    CUSTOMIZED = "customized"
    """The messages whose field `trainable` is True."""


ASSISTANT_MODES = frozenset(
    {
        TrainOnWhat.LAST_ASSISTANT_MESSAGE,
        TrainOnWhat.LAST_ASSISTANT_TURN,
        TrainOnWhat.ALL_ASSISTANT_MESSAGES,
    }
)
"""Modes that train what the assistant wrote, and so need an assistant message at the end."""


def as_train_on_what(value: TrainOnWhat | str) -> TrainOnWhat:
    """The mode of that name. Raises RequestError if there is none."""
    try:
        return TrainOnWhat(value)
    except ValueError as error:
        raise RequestError(
            f"train_on_what: expected a TrainOnWhat; got {value!r}."
            f"{choices(str(value), (str(known) for known in TrainOnWhat))}"
        ) from error


def trained_messages(messages: Sequence[Message], train_on_what: TrainOnWhat) -> frozenset[int]:
    """Indices of the messages that carry weight.

    Raises:
        RequestError: if there is none, if an assistant mode is asked of a conversation that does
            not end with an assistant message, or if the fields `trainable` do not fit the mode.
    """
    _check_trainable_fields(messages, train_on_what)
    if train_on_what in ASSISTANT_MODES and messages[-1]["role"] != "assistant":
        raise RequestError(
            f"{_WHERE}: expected a conversation that ends with an assistant message; got the role "
            f"{messages[-1]['role']!r} last. Drop what follows the last answer, or choose another "
            "train_on_what."
        )
    trained = _select(messages, train_on_what)
    if not trained:
        raise RequestError(
            f"{_WHERE}: expected a message to train on with {str(train_on_what)!r}; got roles "
            f"{[message['role'] for message in messages]}. Choose another train_on_what."
        )
    return frozenset(trained)


def _select(messages: Sequence[Message], train_on_what: TrainOnWhat) -> list[int]:
    of_role = {
        role: [i for i, message in enumerate(messages) if message["role"] == role]
        for role in ("system", "user", "assistant")
    }
    assistant = of_role["assistant"]
    match train_on_what:
        case TrainOnWhat.LAST_ASSISTANT_MESSAGE:
            return assistant[-1:]
        case TrainOnWhat.LAST_ASSISTANT_TURN:
            last_user = of_role["user"][-1] if of_role["user"] else -1
            return [i for i in assistant if i > last_user]
        case TrainOnWhat.ALL_ASSISTANT_MESSAGES:
            return assistant
        case TrainOnWhat.ALL_MESSAGES | TrainOnWhat.ALL_TOKENS:
            return list(range(len(messages)))
        case TrainOnWhat.ALL_USER_AND_SYSTEM_MESSAGES:
            return of_role["system"] + of_role["user"]
        case TrainOnWhat.CUSTOMIZED:
            return [i for i, message in enumerate(messages) if message.get("trainable")]


def _check_trainable_fields(messages: Sequence[Message], train_on_what: TrainOnWhat) -> None:
    customized = train_on_what == TrainOnWhat.CUSTOMIZED
    for index, message in enumerate(messages):
        if customized != ("trainable" in message):
            raise RequestError(
                f"{_WHERE}: messages[{index}]: expected the field 'trainable' on every message "
                f"with train_on_what='customized', and on none otherwise; got "
                f"{'it' if 'trainable' in message else 'none'} with {str(train_on_what)!r}. "
                "Change one of the two."
            )
