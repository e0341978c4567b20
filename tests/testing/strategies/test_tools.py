"""Calls of tools: which are known, and how they are written."""

import json

import pytest
from hypothesis import HealthCheck, given, settings

from tinker_rl.envs import load_renderer
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.renderers import ToolCall
from tinker_rl.testing import actions
from tinker_rl.testing.strategies.token_space import token_space
from tinker_rl.testing.strategies.tool_actions import hard_calls
from tinker_rl.testing.strategies.tools import CallWriter, Tool, known_tools

RENDERER = load_renderer("tiny", "qwen3_instruct")
SPACE = token_space(RENDERER)
SEARCH = {
    "name": "search",
    "description": "Looks up.",
    "parameters": {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "minimum": 3},
            "kind": {"enum": ["web", "book"]},
            "weights": {"type": "array", "items": {"type": "number"}},
            "exact": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "page": {"type": ["object", "null"], "properties": {"from": {"default": 7}}},
        },
    },
}


def message(name, arguments):
    call = ToolCall(function=ToolCall.FunctionBody(name=name, arguments=arguments))
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def calls_of(tokens, renderer=RENDERER):
    parsed, _ = renderer.parse_response(list(tokens))
    calls = [(c.function.name, c.function.arguments) for c in parsed.get("tool_calls", ())]
    return calls, parsed.get("unparsed_tool_calls", [])


def test_a_schema_gives_arguments_that_it_allows():
    (tool,) = known_tools(SPACE, [SEARCH])
    assert tool == Tool(
        "search",
        {
            "query": "a",
            "limit": 3,
            "kind": "web",
            "weights": [1.5],
            "exact": True,
            "page": {"from": 7},
        },
    )
    assert known_tools(SPACE, [{"type": "function", "function": SEARCH}]) == (tool,)


def test_tools_that_good_actions_call_are_known():
    good = [SPACE.encode_action(message("put", '{"key": "x"}')), SPACE.encode("no call")]
    assert known_tools(SPACE, [], good) == (Tool("put", {"key": "x"}),)
    assert known_tools(SPACE, ["put", "get"], good) == (Tool("put", {"key": "x"}), Tool("get"))


def test_what_is_no_tool_is_refused():
    with pytest.raises(ConfigError, match="expected names, or ToolSpec values"):
        known_tools(SPACE, [7])


@pytest.mark.parametrize("name", ["qwen3_instruct", "qwen3"])
def test_calls_are_read_as_calls_by_the_renderer(name):
    renderer = load_renderer("tiny", name)
    writer = CallWriter(token_space(renderer))
    two = writer.tokens(("f", '{"a": 1}'), ("g", "{}"))
    assert calls_of(two, renderer)[0] == [("f", '{"a": 1}'), ("g", "{}")]
    calls, unread = calls_of(writer.tokens(("f", '{"a": 1')), renderer)
    assert (calls, len(unread)) == ([], 1)


def test_a_format_that_has_no_json_writes_what_it_can():
    renderer = load_renderer("tiny", "nemotron3_disable_thinking")
    space = token_space(renderer)
    tokens = CallWriter(space).tokens(("f", '{"a": 1}'))
    assert "<parameter=a>" in space.text(tokens)
    assert calls_of(tokens, renderer)[0] == [("f", '{"a": 1}')]
    assert CallWriter(space).tokens(("f", '{"a": 1')) is None
    assert all(action.tokens for action in hard_calls(space, [Tool("f", {"a": 1})]))


@pytest.mark.parametrize("name", ["role_colon", "chat_template"])
def test_without_calls_in_the_format_they_are_json_between_tags(name):
    space = token_space(load_renderer("tiny", name))
    said = space.text(CallWriter(space).tokens(("f", "[]")))
    assert said == '<tool_call>\n{"name": "f", "arguments": []}\n</tool_call>'


def test_hard_calls_break_arguments_in_every_way():
    (tool,) = known_tools(SPACE, [SEARCH])
    hard = hard_calls(SPACE, [tool])
    assert len(set(hard)) == len(hard) > 100
    read = [calls_of(action.tokens) for action in hard]
    arguments = [text for calls, _ in read for name, text in calls if name == "search"]
    values = [json.loads(text) for text in arguments if text.startswith("{")]
    queries = [value["query"] for value in values if "query" in value]
    assert {str(type(query).__name__) for query in queries} >= {
        "NoneType", "list", "dict", "int", "float", "bool", "str",
    }  # fmt: skip
    assert max(query for query in queries if type(query) is int) > 10**309
    assert "\ud800" in queries
    assert {"", "5", "x"} <= set(arguments)
    assert any("query" not in value for value in values)
    assert any("unknown" in value for value in values)
    assert any(len(calls) == 2 for calls, _ in read)
    assert any(unread for _, unread in read)
    assert "no_such_tool" in {name for calls, _ in read for name, _ in calls}
    assert hard_calls(SPACE, []) == []


@settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(actions(RENDERER, kinds=["tool_call"], tools=[SEARCH]))
def test_drawn_calls_are_read_as_calls(action):
    calls, unread = calls_of(action.tokens)
    assert action.kind == "tool_call"
    assert calls or unread


def test_without_good_actions_tools_are_called_as_they_should_be():
    @settings(max_examples=30, deadline=None, database=None)
    @given(actions(RENDERER, kinds=["valid"], tools=[SEARCH]))
    def note(action):
        said.append(calls_of(action.tokens)[0])

    said = []
    note()
    called = [dict(calls) for calls in said if calls]
    assert 0 < len(called) < len(said)
    assert all(json.loads(calls["search"])["kind"] == "web" for calls in called)


def test_a_message_is_an_action_where_a_renderer_writes_it():
    tokens = SPACE.encode_action(message("f", '{"a": 1}'))
    assert calls_of(tokens)[0] == [("f", '{"a": 1}')]
    assert not set(tokens) & set(RENDERER.get_stop_sequences())
    colon = token_space(load_renderer("tiny", "role_colon"))
    assert colon.text(colon.encode_action({"role": "assistant", "content": "a"})) == " a"
    with pytest.raises(RequestError, match="expected a renderer to write the message"):
        token_space(10).encode_action(message("f", "{}"))
