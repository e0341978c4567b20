"""Tools of a `MessageEnv`: the prompt tells of them, in the words of the chat format."""

import anyio
import pytest

from tinker_rl.envs import EnvFromMessageEnv, MessageEnv, MessageStepResult, load_renderer
from tinker_rl.errors import RequestError
from tinker_rl.renderers import get_renderer

ADD = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}


class Calls(MessageEnv):
    """Keeps what it is told, and answers each call by its arguments."""

    tools = (ADD,)

    def __init__(self):
        self.heard = []
        self.messages = [{"role": "user", "content": "Add."}]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        self.heard.append(message)
        answers = [
            {"role": "tool", "content": call.function.arguments}
            for call in message.get("tool_calls", [])
        ]
        answers += [
            {"role": "tool", "content": call.error}
            for call in message.get("unparsed_tool_calls", [])
        ]
        self.messages += [message, *answers]
        return MessageStepResult(0.0, not answers, list(self.messages))


def shown(renderer, env, *texts):
    """What a policy of these texts sees, turn by turn; decoded."""

    async def play():
        observation, _ = await env.initial_observation()
        seen = [observation]
        for text in texts:
            tokens = renderer.tokenizer.encode(f"{text}<|im_end|>", add_special_tokens=False)
            seen.append((await env.step(tokens)).next_observation)
        return [renderer.tokenizer.decode(each.to_ints()) for each in seen]

    return anyio.run(play)


@pytest.mark.parametrize("name", ["qwen3", "qwen3_disable_thinking", "qwen3_instruct"])
def test_tools_are_in_the_prompt_and_answers_follow_their_calls(name):
    renderer = load_renderer("tiny", name)
    inner = Calls()
    written = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    first, second, _ = shown(renderer, EnvFromMessageEnv(renderer, inner), written, "Done.")
    prompt = renderer.build_generation_prompt([{"role": "user", "content": "Add."}], tools=[ADD])
    assert first == renderer.tokenizer.decode(prompt.to_ints())
    assert '"name": "add"' in first
    assert second.count("# Tools") == 1
    assert '<tool_response>\n{"a": 1}\n</tool_response>' in second
    assert "tool_calls" not in inner.heard[1]


@pytest.mark.parametrize(
    ("arguments", "heard"), [('""', ""), ("[1]", "[1]"), ("null", "{}"), ("5", "5")]
)
def test_arguments_are_a_text_that_may_be_any_json(renderer, arguments, heard):
    inner = Calls()
    written = f'<tool_call>\n{{"name": "add", "arguments": {arguments}}}\n</tool_call>'
    shown(renderer, EnvFromMessageEnv(renderer, inner), written)
    (call,) = inner.heard[0]["tool_calls"]
    assert (call.function.name, call.function.arguments) == ("add", heard)


@pytest.mark.parametrize("written", ['<tool_call>\n{"name": \n</tool_call>', "<tool_call>\n{"])
def test_what_was_meant_as_a_call_says_what_it_was(renderer, written):
    inner = Calls()
    shown(renderer, EnvFromMessageEnv(renderer, inner), written)
    (call,) = inner.heard[0]["unparsed_tool_calls"]
    assert call.error
    assert call.raw_text in written


def test_no_tools_are_no_part_of_the_prompt(renderer):
    inner = Calls()
    inner.tools = ()
    (first,) = shown(renderer, EnvFromMessageEnv(renderer, inner))
    assert "Tools" not in first


@pytest.mark.parametrize("wrong", [{"add": None}, ["add"], [{"name": "add"}], None])
def test_what_is_no_tool_is_named(renderer, wrong):
    inner = Calls()
    inner.tools = wrong
    with pytest.raises(RequestError, match=r"Calls\.tools: expected a list of tools"):
        shown(renderer, EnvFromMessageEnv(renderer, inner))


def test_a_format_without_tools_says_so(renderer):
    plain = get_renderer("role_colon", renderer.tokenizer)
    with pytest.raises(RequestError, match="expected messages without tools"):
        shown(plain, EnvFromMessageEnv(plain, Calls()))
