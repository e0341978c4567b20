"""The tools of an environment, and how a policy spells a call of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.renderers import ToolCall, ToolSpec
from tinker_rl.testing.strategies.token_space import TokenSpace

__all__ = ["CallWriter", "Tool", "Tools", "called", "known_tools"]

Tools: TypeAlias = Sequence[str | ToolSpec]
"""Tools as a renderer takes them, or their names alone."""

_NAME, _ARGUMENTS = "a_name", '{"an_argument": 0}'


class Tool(msgspec.Struct, frozen=True):
    """A tool that a policy may call."""

    name: str
    example: dict[str, Any] = {}
    """Arguments that it takes; empty where none are known."""


def known_tools(
    space: TokenSpace, tools: Tools = (), actions: Iterable[Sequence[int]] = ()
) -> tuple[Tool, ...]:
    """The tools that were named, and those that good actions call.

    Args:
        space: What reads the actions.
        tools: What the author names.
        actions: Tokens of good actions; arguments in them are better than those of a schema, and
            the first are the best.
    Raises:
        ConfigError: if something in `tools` is neither a name nor a `ToolSpec`.
    """
    found = {tool.name: tool for tool in map(_named, tools)}
    shown: dict[str, dict[str, Any]] = {}
    for name, arguments in called(space, actions):
        shown[name] = shown.get(name) or arguments
    for name, arguments in shown.items():
        if name not in found or arguments:
            found[name] = Tool(name, arguments)
    return tuple(found.values())


def _named(tool: Any) -> Tool:
    if isinstance(tool, str):
        return Tool(tool)
    if isinstance(tool, Mapping):
        spec: Any = tool.get("function", tool)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(spec.get("name"), str):
            example = _example(spec.get("parameters") or {})
            return Tool(spec["name"], example if isinstance(example, dict) else {})
    raise ConfigError(
        f"check_env.tools: expected names, or ToolSpec values with 'name' and 'parameters'; got "
        f"{tool!r}. Give what the renderer is given, or tools=['search']."
    )


def _example(schema: Any) -> Any:
    """A value that a JSON schema allows, all its properties given."""
    if not isinstance(schema, Mapping):
        return "a"
    known: Any = schema
    for key in ("const", "default"):
        if key in known:
            return known[key]
    for key in ("enum", "examples"):
        if known.get(key):
            return known[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if known.get(key):
            return _example(known[key][0])
    kind = known.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in known:
        return {name: _example(value) for name, value in known.get("properties", {}).items()}
    simple = {"integer": known.get("minimum", 1), "number": known.get("minimum", 1.5)}
    simple |= {"boolean": True, "null": None, "array": [_example(known.get("items"))]}
    return simple.get(str(kind), "a")


def called(
    space: TokenSpace, actions: Iterable[Sequence[int]]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Names and arguments of the tool calls in actions."""
    if space.renderer is None:
        return
    stop = space.stops[0] if space.stops else ()
    for tokens in actions:
        message, _ = space.renderer.parse_response([*tokens, *stop])
        for call in message.get("tool_calls", ()):
            try:
                arguments = json.loads(call.function.arguments)
            except ValueError:
                continue
            if isinstance(arguments, dict):
                yield call.function.name, arguments  # pyright: ignore[reportUnknownMemberType]


class CallWriter:
    """Spells calls as the renderer of an environment does, whatever their arguments.

    Without a renderer, or with one that has no tool calls, they are JSON between `<tool_call>` and
    `</tool_call>`.

    Args:
        space: What writes them.
    """

    def __init__(self, space: TokenSpace) -> None:
        self._space = space
        self._forms: dict[int, str | None] = {}

    def tokens(self, *calls: tuple[str, str]) -> tuple[int, ...] | None:
        """One message of calls; None where the format has no way to write these arguments.

        Args:
            calls: Each a name, and arguments as text, which need not be JSON.
        """
        form = self._form(len(calls))
        if form is None:
            return self._rendered(calls)
        parts = form.split(_ARGUMENTS)
        written = ""
        for part, (name, arguments) in zip(parts[:-1], calls, strict=True):
            written += part.replace(_NAME, json.dumps(name)[1:-1]) + arguments
        return self._space.encode(written + parts[-1])

    def _form(self, num_calls: int) -> str | None:
        """A message with places for names and arguments; None if it writes no arguments as JSON."""
        if num_calls not in self._forms:
            self._forms[num_calls] = self._found_form(num_calls)
        return self._forms[num_calls]

    def _found_form(self, num_calls: int) -> str | None:
        tokens = self._rendered([(_NAME, _ARGUMENTS)] * num_calls)
        written = "" if tokens is None else self._space.text(tokens)
        if _NAME not in written:  # the format has no place for calls
            call = f'<tool_call>\n{{"name": "{_NAME}", "arguments": {_ARGUMENTS}}}\n</tool_call>'
            return "\n".join([call] * num_calls)
        fits = written.count(_ARGUMENTS) == written.count(_NAME) == num_calls
        return written if fits else None

    def _rendered(self, calls: Sequence[tuple[str, str]]) -> tuple[int, ...] | None:
        body = ToolCall.FunctionBody
        listed = [ToolCall(function=body(name=name, arguments=text)) for name, text in calls]
        if self._space.renderer is None:
            return None
        try:
            message: Any = {"role": "assistant", "content": "", "tool_calls": listed}
            return self._space.encode_action(message)
        except RequestError:  # a renderer without tool calls, or arguments that are no object
            return None
