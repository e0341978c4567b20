"""Tool calls: parsed, rendered, refused, kept as text."""

import pytest

from tinker_rl.errors import RequestError
from tinker_rl.renderers import ToolCall, get_renderer

TOOLS = [{"name": "add", "description": "Adds.", "parameters": {"type": "object"}}]
CALL = ToolCall(function=ToolCall.FunctionBody(name="add", arguments='{"left": 2}'))


def test_a_tool_call_is_parsed_and_rendered_again(tiny_tokenizer):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    messages = [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "I add.", "tool_calls": [CALL]},
    ]
    prompt = renderer.build_generation_prompt(messages[:1], tools=TOOLS)
    assert '"name": "add"' in tiny_tokenizer.decode(prompt.to_ints())
    example, _ = renderer.build_supervised_example(messages, tools=TOOLS)
    assert example.to_ints()[: prompt.length] == prompt.to_ints()
    parsed, termination = renderer.parse_response(example.to_ints()[prompt.length :])
    assert termination
    assert parsed["tool_calls"] == [CALL]
    assert parsed["content"].strip() == "I add."
    result = {"role": "tool", "content": "4", "name": "add", "tool_call_id": "1"}
    following = tiny_tokenizer.decode(
        renderer.build_generation_prompt([*messages, result]).to_ints()
    )
    assert "<tool_response>\n4\n</tool_response>" in following


def test_a_broken_tool_call_is_kept_as_text(tiny_tokenizer):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    tokens = tiny_tokenizer.encode('<tool_call>\n{"name": \n</tool_call><|im_end|>')
    message, termination = renderer.parse_response(tokens)
    assert termination
    assert "tool_calls" not in message
    assert [call.error for call in message["unparsed_tool_calls"]] == ["invalid_json"]


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 3000, "[" * 3000 + "]" * 3000])
def test_a_tool_call_that_python_cannot_read_is_kept_as_text(tiny_tokenizer, value):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    text = f'<tool_call>\n{{"name": "add", "arguments": {{"left": {value}}}}}\n</tool_call>'
    message, termination = renderer.parse_response(tiny_tokenizer.encode(text + "<|im_end|>"))
    assert termination
    (call,) = message["unparsed_tool_calls"]
    assert (call.error, call.raw_text) == ("invalid_json", text)
    assert "tool_calls" not in message


@pytest.mark.parametrize("name", ["5", "[1]", "{}", "true"])
def test_a_name_that_is_no_text_is_none(tiny_tokenizer, name):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    text = f'<tool_call>\n{{"name": {name}, "arguments": {{}}}}\n</tool_call><|im_end|>'
    message, _ = renderer.parse_response(tiny_tokenizer.encode(text, add_special_tokens=False))
    assert "tool_calls" not in message
    (call,) = message["unparsed_tool_calls"]
    assert call.error in ("name_is_no_text", "missing_name")
    assert name in call.raw_text


def test_half_a_character_in_arguments_can_be_rendered_again(tiny_tokenizer):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    written = '{"left": "\\ud800 \\ud83d\\ude00"}'
    text = f'<tool_call>\n{{"name": "add", "arguments": {written}}}\n</tool_call>'
    message, _ = renderer.parse_response(tiny_tokenizer.encode(text + "<|im_end|>"))
    assert message["tool_calls"][0].function.arguments == written
    prompt = renderer.build_generation_prompt([message, {"role": "user", "content": "?"}])
    assert '"arguments": {"left": "\ufffd 😀"}}' in tiny_tokenizer.decode(prompt.to_ints())


def test_an_answer_in_json_is_no_tool_call_of_llama(tokenizers):
    renderer = get_renderer("llama3", tokenizers("llama3"))
    text = '{"name": "add", "parameters": {}}'
    message, _ = renderer.parse_response(renderer.tokenizer.encode(text + "<|eot_id|>"))
    assert message == {"role": "assistant", "content": text}


def test_what_the_library_refuses_names_its_reason(tokenizers):
    renderer = get_renderer("llama3", tokenizers("llama3"))
    messages = [{"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}]
    with pytest.raises(RequestError, match="single tool call"):
        renderer.build_generation_prompt(messages)
