"""The worked environment with tools: right answers earn, and no call of a tool breaks it."""

import importlib
import json
from pathlib import Path

import anyio
import pytest

from tinker_rl.envs import StopReason, load_renderer
from tinker_rl.renderers import ToolCall, TrainOnWhat, UnparsedToolCall
from tinker_rl.testing import EnvCheckError, EnvCheckReport

EXAMPLES = Path(__file__).parents[2] / "examples"
FORMATS = ["qwen3", "qwen3_disable_thinking", "qwen3_instruct"]


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("tool_env")


def talk(example, *messages):
    """The environment and the results of a conversation with it."""
    env = example.NotebookEnv(17, 25)

    async def play():
        await env.initial_observation()
        return [await env.step(message) for message in messages]

    return env, anyio.run(play)


def calls(*pairs):
    """A message with calls, by name and arguments as text."""
    made = [ToolCall(function=ToolCall.FunctionBody(name=n, arguments=a)) for n, a in pairs]
    return {"role": "assistant", "content": "", "tool_calls": made}


def said(text):
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("name", FORMATS)
def test_the_solution_in_tokens_earns_one(example, name):
    renderer = load_renderer("tiny", name)
    question = said("?") | {"role": "user"}

    async def play():
        (env, _) = await example.make_group(name).make_envs()
        await env.initial_observation()
        for message in [*example.SOLUTION[:2], said("42")]:
            tokens, weights = renderer.build_supervised_example(
                [question, message], TrainOnWhat.LAST_ASSISTANT_MESSAGE
            )
            action = [t for t, w in zip(tokens.to_ints(), weights, strict=True) if w]
            result = await env.step(action)
        return result

    result = anyio.run(play)
    assert result.reward == 1.0
    assert (result.metrics["calls"], result.metrics["errors"]) == (2, 0)


@pytest.mark.parametrize("last", ["43", ""])
def test_what_is_said_and_what_is_noted_must_be_right(example, last):
    put, add = example.call("put", key="sum", value="42"), example.call("add", a=1, b=2)
    assert talk(example, put, said(last))[1][-1].reward == 0.0
    assert talk(example, add, said("42"))[1][-1].reward == 0.0
    assert talk(example, add, put, said(" 42 "))[1][-1].reward == 1.0


DEEP = "[" * 100_000
HARD = ["", "null", "[]", "[1]", '"a"', "5", "{", DEEP, '{"a": 1e999, "b": NaN}', '{"key": []}']
HARD += ['{"a": true, "b": true}', f'{{"a": 1{"0" * 400}, "b": 1}}', f'{{"a": 1{"0" * 5000}}}']
HARD += ['{"key": {"a": 1}, "value": 3}', '{"key": null}', "{}", f'{{"key": "{"k" * 99}"}}']


@pytest.mark.parametrize("arguments", HARD)
def test_hard_calls_are_answered_by_errors(example, arguments):
    names = ["add", "put", "get", "", "sudo"]
    env, results = talk(example, *(calls((name, arguments)) for name in names))
    answers = [message["content"] for message in env.messages if message["role"] == "tool"]
    assert [answer[:7] for answer in answers] == ["error: "] * len(names)
    assert not any(result.episode_done for result in results)


def test_half_a_character_comes_back_in_ascii(example):
    half = json.dumps({"key": "\ud800", "value": "\ud800"})
    env, _ = talk(example, calls(("put", half)), calls(("get", half)))
    assert env.messages[-1]["content"] == '"\\ud800"'


def test_every_call_has_an_answer_and_too_many_are_refused(example):
    many = calls(*[("add", '{"a": 1, "b": 2}')] * 6)
    many["unparsed_tool_calls"] = [UnparsedToolCall(raw_text="<tool_call>{", error="invalid_json")]
    env, _ = talk(example, many)
    texts = [message["content"] for message in env.messages if message["role"] == "tool"]
    assert texts[:4] == ["3"] * 4
    assert texts[4:6] == ["error: at most 4 calls at a time"] * 2
    assert texts[6] == "error: invalid_json"
    assert env.num_errors == 3


def test_it_ends_after_six_turns_of_calls(example):
    _, results = talk(example, *[calls(("get", "{}"))] * 6)
    assert [result.episode_done for result in results] == [False] * 5 + [True]
    assert results[-1].stop_reason == StopReason.MAX_TURNS


@pytest.mark.parametrize("name", FORMATS)
def test_the_check_finds_nothing_in_any_format(example, name):
    report = example.check(name, max_examples=3)
    assert isinstance(report, EnvCheckReport)
    assert report.valid_returns == (0, 1)


def test_the_check_calls_the_tools_of_the_environment_by_itself(example, monkeypatch):
    monkeypatch.setattr(example, "arguments_of", lambda call: json.loads(call.arguments))
    with pytest.raises(EnvCheckError, match="has no attribute 'get'") as caught:
        example.check(max_examples=8)
    assert caught.value.property == "answers_any_action"
