import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import (
    ScriptedMessageCompleter,
    ScriptedTokenCompleter,
    TokensWithLogprobs,
)
from tinker_rl.errors import CompleterError
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([1, 2])
tokens = st.lists(st.integers(0, 9), max_size=5)


async def call(completer, *prompts, **limits):
    return [await completer(prompt, [0], **limits) for prompt in prompts]


@given(script=st.lists(tokens, max_size=4))
def test_answers_come_in_the_order_of_the_script(script):
    completer = ScriptedTokenCompleter(script, policy_version=5)
    prompts = [ModelInput.from_ints([n]) for n in range(len(script))]
    answers = anyio.run(call, completer, *prompts, backend="trio")
    assert answers == [TokensWithLogprobs(row, [0.0] * len(row), "stop", 5) for row in script]
    assert completer.calls == prompts
    with pytest.raises(CompleterError, match=f"at most {len(script)} calls"):
        anyio.run(call, completer, PROMPT, backend="trio")


@given(answer=tokens, max_tokens=st.integers(0, 6), measured=st.booleans())
def test_a_longer_answer_is_cut_at_the_limit(answer, max_tokens, measured):
    logprobs = [-1.0] * len(answer) if measured else None
    completer = ScriptedTokenCompleter([TokensWithLogprobs(answer, logprobs, "stop", 2)])

    async def cut():
        return await completer(PROMPT, [0], max_tokens=max_tokens)

    got = anyio.run(cut, backend="trio")
    assert got.tokens == answer[:max_tokens]
    assert got.maybe_logprobs == (None if logprobs is None else logprobs[:max_tokens])
    assert got.stop_reason == ("length" if len(answer) > max_tokens else "stop")
    assert got.policy_version == 2


def test_a_function_of_the_prompt_may_be_the_script(backend):
    async def slowly(prompt):
        await anyio.lowlevel.checkpoint()
        return [prompt.length]

    for script in (lambda prompt: [prompt.length], slowly):
        completer = ScriptedTokenCompleter(script)
        (answer,) = anyio.run(call, completer, PROMPT, backend=backend)
        assert answer.tokens == [2]


def test_messages_may_be_texts_or_whole_messages(backend):
    whole = {"role": "assistant", "content": [{"type": "text", "text": "b"}]}
    completer = ScriptedMessageCompleter(["a", whole])
    conversation = [{"role": "user", "content": "hi"}]

    async def talk():
        return [await completer(conversation), await completer([*conversation, whole])]

    assert anyio.run(talk, backend=backend) == [{"role": "assistant", "content": "a"}, whole]
    assert completer.calls == [conversation, [*conversation, whole]]
    with pytest.raises(CompleterError, match="at most 2 calls"):
        anyio.run(completer, conversation, backend=backend)


def test_messages_may_be_answered_by_a_function(backend):
    completer = ScriptedMessageCompleter(lambda messages: messages[-1]["content"].upper())
    answer = anyio.run(completer, [{"role": "user", "content": "hi"}], backend=backend)
    assert answer == {"role": "assistant", "content": "HI"}
