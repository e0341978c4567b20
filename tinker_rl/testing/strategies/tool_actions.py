"""Calls of tools that nobody asked for: arguments of other types, missing, doubled, no JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tinker_rl.testing.extra import st
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.look_alikes import look_alikes
from tinker_rl.testing.strategies.token_space import TokenSpace
from tinker_rl.testing.strategies.tools import CallWriter, Tool

__all__ = ["drawn_calls", "good_calls", "hard_calls"]

_VALUES = (
    "null",
    '""',
    "[]",
    "{}",
    "0",
    "-1",
    "0.5",
    "true",
    '"x"',
    '"' + "a" * 300 + '"',
    '" \\n"',
    "1" + "0" * 400,  # an int, and too large for a float
    "1e999",
    "NaN",
    '"\\u4e2d\\u0130\\ud83d\\ude00"',  # in no code page of one byte
    '"\\ud800"',  # half of a character, which no UTF-8 can hold
    '"\\u0000"',
    '"../../etc/passwd"',
    "[[[[0]]]]",
    '{"a": {"b": [null]}}',
)
"""Values of arguments in JSON, the simplest first."""
_BARE = ('""', "null", "[]", "5", '"x"', "", "{", "nothing", "{'a': 1}", "[" * 200)
"""What is no object, or no JSON at all."""
_LOOK_ALIKES = 4
"""Most that are tried of a text that a tool takes."""
_UNKNOWN = "no_such_tool"
_NAMES = "abcdefghij_xyz"


def hard_calls(space: TokenSpace, tools: Sequence[Tool]) -> list[DrawnAction]:
    """Calls of the tools of an environment that are known to break things; none without tools.

    Args:
        space: What writes them.
        tools: What can be called.
    """
    if not tools:
        return []
    writer = CallWriter(space)
    stop = space.stops[0] if space.stops else ()
    spelled = [[(tool.name, arguments)] for tool in tools for arguments in _arguments(tool)]
    spelled += [[(_UNKNOWN, "{}")], [("", "{}")]]
    spelled += [[(tool.name, json.dumps(tool.example)), (_UNKNOWN, "{}")] for tool in tools]
    spelled += [[(tool.name, json.dumps(tool.example))] * 2 for tool in tools]
    written = [writer.tokens(*calls) for calls in spelled]
    return list(
        dict.fromkeys(
            DrawnAction((*tokens, *stop), "stop", "tool_call")
            for tokens in written
            if tokens is not None
        )
    )


def good_calls(space: TokenSpace, tools: Sequence[Tool]) -> list[tuple[int, ...]]:
    """A call of each tool whose arguments are known, as tokens without the stop."""
    writer = CallWriter(space)
    calls = [(tool.name, json.dumps(tool.example)) for tool in tools if tool.example]
    written = [writer.tokens(call) for call in calls]
    return [tokens for tokens in written if tokens is not None]


def _arguments(tool: Tool) -> Iterator[str]:
    yield "{}"
    yield from _BARE
    known = {key: json.dumps(value) for key, value in tool.example.items()}
    yield _object([*known.items(), ("unknown", "1")])
    for key in known:
        yield _object([item for item in known.items() if item[0] != key])
    for key in known or {"x": ""}:
        for value in _VALUES:
            yield _object((known | {key: value}).items())
    for key, value in tool.example.items():
        for other in look_alikes(value)[:_LOOK_ALIKES] if isinstance(value, str) else ():
            yield _object((known | {key: json.dumps(other)}).items())
    for key in known:
        yield _object([*known.items(), (key, "null")])  # the same key twice


def _object(items: Any) -> str:
    return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in items) + "}"


def drawn_calls(space: TokenSpace, tools: Sequence[Tool]) -> st.SearchStrategy[tuple[int, ...]]:
    """Messages of one or two calls, as tokens without the stop; they shrink to good arguments.

    Args:
        space: What writes them.
        tools: What can be called; if empty, the names are any.
    """
    writer = CallWriter(space)
    one = st.sampled_from(list(tools)).flatmap(_call) if tools else _any_call(Tool("f"))
    calls = st.lists(one, min_size=1, max_size=2)
    written = calls.map(lambda calls: writer.tokens(*calls))
    plain = space.encode(f'<tool_call>\n{{"name": "{_UNKNOWN}", "arguments": {{}}}}\n</tool_call>')
    return written.map(lambda tokens: plain if tokens is None else tokens)


def _call(tool: Tool) -> st.SearchStrategy[tuple[str, str]]:
    """A call of a tool whose arguments are right, or wrong in some places."""
    json_values = st.sampled_from(_VALUES) | st.integers().map(str) | _texts()
    given = {key: st.just(json.dumps(value)) | json_values for key, value in tool.example.items()}
    arguments = st.fixed_dictionaries(given).map(lambda known: _object(known.items()))
    return st.tuples(st.just(tool.name), arguments) | _any_call(tool)


def _any_call(tool: Tool) -> st.SearchStrategy[tuple[str, str]]:
    """A call of a tool, or of none that there is, with any arguments."""
    names = st.just(tool.name) | st.text(_NAMES, min_size=1, max_size=8)
    keys = st.sampled_from([*tool.example, "x"])
    values = st.sampled_from(_VALUES) | _texts()
    objects = st.dictionaries(keys, values, max_size=3).map(lambda given: _object(given.items()))
    return st.tuples(names, objects | st.sampled_from(_BARE))


def _texts() -> st.SearchStrategy[str]:
    return st.text(max_size=6).map(json.dumps)
