"""Chat messages: their shape, their checks, and what is read out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, NotRequired, TypeAlias, TypedDict, cast

import msgspec

from tinker_rl.errors import RequestError, UnsupportedError, choices

__all__ = [
    "ROLES",
    "Content",
    "ContentPart",
    "Message",
    "Role",
    "TextPart",
    "ThinkingPart",
    "ThinkingStyle",
    "ToolCall",
    "ToolSpec",
    "UnparsedToolCall",
    "check_messages",
    "ensure_text",
    "format_content_as_string",
    "get_text_content",
    "has_thinking",
    "to_template_message",
]

Role: TypeAlias = str
ROLES = frozenset({"system", "user", "assistant", "tool"})
"""Roles that every format knows."""

ThinkingStyle: TypeAlias = Literal["separate", "inline", "none"]
"""Where a format keeps reasoning: in a field of its own, as `<think>` tags in the text, nowhere."""


class TextPart(TypedDict):
    """Text of a message whose content is a list of parts."""

    type: Literal["text"]
    text: str


class ThinkingPart(TypedDict):
    """Reasoning that the model wrote before its answer."""

    type: Literal["thinking"]
    thinking: str


ContentPart: TypeAlias = TextPart | ThinkingPart
Content: TypeAlias = str | list[ContentPart]


class _FunctionBody(msgspec.Struct, frozen=True):
    """The function that a tool call names, and its arguments."""

    name: str
    arguments: str
    """JSON as text: an object, unless the model wrote something else, be it no JSON."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool, in the form of the OpenAI chat API."""

    FunctionBody: ClassVar[Callable[..., _FunctionBody]] = _FunctionBody

    function: _FunctionBody
    id: str | None = None
    type: Literal["function"] = "function"


class UnparsedToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """What the model meant as a tool call and wrote wrongly."""

    raw_text: str
    error: str


class ToolSpec(TypedDict):
    """A tool that the model may call; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class Message(TypedDict):
    """One turn of a conversation."""

    role: Role
    content: Content
    tool_calls: NotRequired[list[ToolCall]]
    unparsed_tool_calls: NotRequired[list[UnparsedToolCall]]
    trainable: NotRequired[bool]
    """Whether the turn is trained on; only with `TrainOnWhat.CUSTOMIZED`."""
    tool_call_id: NotRequired[str]
    """On a message of role `tool`: the call that it answers."""
    name: NotRequired[str]
    """On a message of role `tool`: the function that was called."""


# What other chat APIs put beside the content. Dropping it unseen would train on half a message.
_FOREIGN_REASONING = ("reasoning_content", "reasoning", "thinking")


def check_messages(where: str, messages: Sequence[Message], roles: Collection[str] = ROLES) -> None:
    """Check that `messages` is a conversation.

    Args:
        where: The call that was given the messages, for the error.
        messages: One message or more, oldest first.
        roles: Roles that the format can hold.
    Raises:
        RequestError: if there is no message, or one is malformed; it names which and how.
        UnsupportedError: on content that is neither text nor reasoning.
    """
    listed = cast(object, messages)
    if isinstance(listed, str | Mapping) or not isinstance(listed, Sequence):
        raise RequestError(
            f"{where}: expected a list of messages; got {type(listed).__name__}. "
            'Pass [{"role": "user", "content": ...}].'
        )
    if not messages:
        raise RequestError(
            f"{where}: expected at least one message; got an empty conversation. "
            'Pass [{"role": "user", "content": ...}].'
        )
    for index, message in enumerate(messages):
        _check_message(f"{where}: messages[{index}]", message, roles)


def _check_message(where: str, message: object, roles: Collection[str]) -> None:
    if not isinstance(message, Mapping):
        raise RequestError(
            f"{where}: expected a mapping with 'role' and 'content'; got "
            f"{type(message).__name__}. Pass dictionaries, or `Message`."
        )
    fields = cast(Mapping[str, Any], message)
    for key in ("role", "content"):
        if key not in fields:
            raise RequestError(
                f"{where}: expected the key {key!r}; got {sorted(map(str, fields))}. Add it."
            )
    role = fields["role"]
    if not isinstance(role, str) or role not in roles:
        raise RequestError(
            f"{where}['role']: expected a role of this format; got {role!r}."
            f"{choices(str(role), roles)}"
        )
    for key in _FOREIGN_REASONING:
        if fields.get(key):
            raise RequestError(
                f"{where}: expected reasoning as a part of the content; got the key {key!r}. "
                'Write "content": [{"type": "thinking", "thinking": ...}, {"type": "text", ...}].'
            )
    _check_content(f"{where}['content']", fields["content"])
    for call in cast(Sequence[object], fields.get("tool_calls") or ()):
        _openai_tool_call(f"{where}['tool_calls']", call)


def _check_content(where: str, content: object) -> None:
    if isinstance(content, str):
        _check_text(where, content)
        return
    if not isinstance(content, list):
        raise RequestError(
            f"{where}: expected a string or a list of parts; got {type(content).__name__}. "
            'Write "" for a message that holds tool calls only.'
        )
    text_seen = False
    for index, part in enumerate(cast(list[object], content)):
        kind = cast(Mapping[str, Any], part).get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "thinking"):
            raise UnsupportedError(
                f"{where}[{index}]: expected a part of type 'text' or 'thinking'; got "
                f"{kind or type(part).__name__!r}. Images and audio are not supported here."
            )
        _check_text(f"{where}[{index}][{kind!r}]", cast(Mapping[str, Any], part).get(kind))
        if kind == "thinking" and text_seen:
            raise UnsupportedError(
                f"{where}[{index}]: expected reasoning before the text; got it after. "
                "Put the parts of type 'thinking' first."
            )
        text_seen = text_seen or kind == "text"


def _check_text(where: str, text: object) -> None:
    if not isinstance(text, str):
        raise RequestError(
            f"{where}: expected a string; got {type(text).__name__}. Convert it first."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{where}: expected text that UTF-8 can hold; got a lone surrogate at character "
            f"{error.start}. Decode the source with errors='replace'."
        ) from error


def ensure_text(content: Content) -> str:
    """The text of a content that is text and nothing else.

    Raises:
        UnsupportedError: if there is reasoning in it, or more than one part.
    """
    if isinstance(content, str):
        return content
    if len(content) == 1 and content[0]["type"] == "text":
        return content[0]["text"]
    raise UnsupportedError(
        f"ensure_text: expected plain text; got parts {[part['type'] for part in content]}. "
        "Use get_text_content to leave out the reasoning."
    )


def get_text_content(message: Message) -> str:
    """The text of a message, without its reasoning."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def has_thinking(message: Message) -> bool:
    """Whether the message holds reasoning, as a part or as `<think>` tags in its text."""
    content = message["content"]
    if isinstance(content, str):
        return "</think>" in content
    return any(part["type"] == "thinking" or "</think>" in part["text"] for part in content)


def format_content_as_string(content: Content, separator: str = "\n") -> str:
    """Content for a person or a log: its parts in order, reasoning between `<think>` tags."""
    if isinstance(content, str):
        return content
    return separator.join(
        f"<think>{part['thinking']}</think>" if part["type"] == "thinking" else part["text"]
        for part in content
    )


def to_template_message(message: Message, thinking: ThinkingStyle) -> dict[str, Any]:
    """A message in the form that chat templates read: text, `reasoning_content`, plain tool calls.

    Raises:
        UnsupportedError: if the message holds reasoning and the format has no place for it.
    """
    fields: dict[str, Any] = {"role": message["role"], "content": get_text_content(message)}
    content = message["content"]
    reasoning = (
        "".join(part["thinking"] for part in content if part["type"] == "thinking")
        if isinstance(content, list)
        else ""
    )
    if reasoning and thinking == "none":
        raise UnsupportedError(
            f"messages: expected no part of type 'thinking' in a format without reasoning; got "
            f"one of {len(reasoning)} characters. Drop it, or use a renderer for a reasoning model."
        )
    if reasoning and thinking == "inline":
        fields["content"] = f"<think>{reasoning}</think>{fields['content']}"
    elif reasoning:
        fields["reasoning_content"] = reasoning
    calls = message.get("tool_calls")
    if calls:
        fields["tool_calls"] = [_openai_tool_call("messages: tool_calls", call) for call in calls]
    answered = {key: message.get(key) for key in ("tool_call_id", "name")}
    return fields | {key: value for key, value in answered.items() if value is not None}


def _openai_tool_call(where: str, call: object) -> dict[str, Any]:
    """A `ToolCall`, or the same as a dictionary, as a dictionary with decoded arguments."""
    raw: Any = msgspec.to_builtins(call) if isinstance(call, msgspec.Struct) else call
    try:
        parsed = msgspec.convert(raw, ToolCall)
        arguments: object = json.loads(parsed.function.arguments)
    except (msgspec.ValidationError, json.JSONDecodeError) as error:
        raise RequestError(
            f"{where}: expected ToolCall values whose arguments are JSON text; got {raw!r} "
            f"({error}). Pass ToolCall(function=ToolCall.FunctionBody(name=..., arguments=...))."
        ) from error
    function = {"name": parsed.function.name, "arguments": arguments}
    fields: dict[str, Any] = {"type": "function", "function": _whole_characters(function)}
    if parsed.id is not None:
        fields["id"] = parsed.id
    return fields


def _whole_characters(value: dict[str, Any]) -> dict[str, Any]:
    """The value, with U+FFFD for half a surrogate pair, which models may write."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value
