"""What a message may be, and what is read out of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.errors import RequestError, UnsupportedError
from tinker_rl.renderers import (
    ToolCall,
    ensure_text,
    format_content_as_string,
    get_renderer,
    get_text_content,
)
from tinker_rl.renderers.messages import check_messages, has_thinking, to_template_message

# Few examples a property, for each runs on several tokenizers; the first one builds them.
quick = settings(max_examples=40, deadline=None)

PARTS = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}]
TEXT = {"type": "text", "text": "a"}

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "user", "text", "content"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@quick
@given(messages=junk)
def test_junk_is_refused_as_a_request_error_or_is_a_conversation(messages):
    try:
        check_messages("here", messages)
    except RequestError as error:
        raised = str(error)
    else:
        assert messages
        for message in messages:
            assert message["role"] in {"system", "user", "assistant", "tool"}
            assert isinstance(message["content"], str | list)
        return
    assert raised.startswith("here")
    assert "expected" in raised
    assert "; got" in raised or ", got" in raised


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "here: expected at least one message; got an empty conversation"),
        ("hi", "here: expected a list of messages; got str"),
        ({"role": "user", "content": "a"}, "here: expected a list of messages; got dict"),
        (["hi"], r"here: messages\[0\]: expected a mapping with 'role' and 'content'; got str"),
        ([{"role": "user"}], r"messages\[0\]: expected the key 'content'; got \['role'\]"),
        ([{"content": "a"}], r"messages\[0\]: expected the key 'role'"),
        ([{"role": "usr", "content": "a"}], "got 'usr'. Did you mean 'user'"),
        ([{"role": None, "content": "a"}], r"\['role'\]: expected a role of this format; got None"),
        ([{"role": "user", "content": None}], r"\['content'\]: expected a string or a list"),
        ([{"role": "user", "content": b"a"}], "expected a string or a list of parts; got bytes"),
        ([{"role": "user", "content": 4}], "expected a string or a list of parts; got int"),
        ([{"role": "user", "content": "\ud800"}], "a lone surrogate at character 0"),
        (
            [{"role": "user", "content": [{"type": "image", "image": "x"}]}],
            r"\['content'\]\[0\]: expected a part of type 'text' or 'thinking'; got 'image'",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], r"\[0\]\['text'\]: expected a string"),
        ([{"role": "user", "content": [*PARTS[::-1]]}], "expected reasoning before the text"),
        (
            [{"role": "assistant", "content": "4", "reasoning_content": "hm"}],
            "expected reasoning as a part of the content; got the key 'reasoning_content'",
        ),
        (
            [{"role": "assistant", "content": "", "tool_calls": ["add"]}],
            "expected ToolCall values whose arguments are JSON text; got 'add'",
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        ToolCall(function=ToolCall.FunctionBody(name="add", arguments="{"))
                    ],
                }
            ],
            "expected ToolCall values whose arguments are JSON text",
        ),
    ],
)
def test_a_malformed_conversation_names_the_place_and_the_fault(messages, says):
    with pytest.raises(RequestError, match=says):
        check_messages("here", messages)


def test_every_way_into_a_renderer_checks_its_messages(tiny_tokenizer):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    bad = [{"role": "user", "content": 4}]
    for method in (
        renderer.build_generation_prompt,
        renderer.build_supervised_example,
        renderer.build_supervised_examples,
    ):
        with pytest.raises(RequestError, match="expected a string or a list of parts"):
            method(bad)
    prompt = renderer.build_generation_prompt([{"role": "user", "content": "a"}])
    with pytest.raises(RequestError, match="extend_generation_prompt"):
        renderer.extend_generation_prompt(prompt, [1], bad)


def test_content_is_read_as_text():
    assert ensure_text("a") == "a"
    assert ensure_text([TEXT]) == "a"
    with pytest.raises(UnsupportedError, match="expected plain text"):
        ensure_text(PARTS)
    assert get_text_content({"role": "assistant", "content": PARTS}) == "4"
    assert get_text_content({"role": "assistant", "content": "4"}) == "4"
    assert format_content_as_string(PARTS) == "<think>hm</think>\n4"
    assert format_content_as_string("4") == "4"


@pytest.mark.parametrize(
    ("content", "thinks"),
    [("4", False), ("<think>hm</think>4", True), (PARTS, True), ([TEXT], False)],
)
def test_reasoning_is_seen_as_a_part_and_as_tags(content, thinks):
    assert has_thinking({"role": "assistant", "content": content}) is thinks


def test_a_message_takes_the_form_that_templates_read():
    call = ToolCall(function=ToolCall.FunctionBody(name="add", arguments='{"left": 2}'), id="7")
    message = {"role": "assistant", "content": PARTS, "tool_calls": [call], "trainable": True}
    function = {"name": "add", "arguments": {"left": 2}}
    calls = [{"type": "function", "id": "7", "function": function}]
    expected = {"role": "assistant", "content": "4", "tool_calls": calls}
    assert to_template_message(message, "separate") == expected | {"reasoning_content": "hm"}
    assert to_template_message(message, "inline") == expected | {"content": "<think>hm</think>4"}
    with pytest.raises(UnsupportedError, match="format without reasoning"):
        to_template_message(message, "none")
    spelled = message | {
        "tool_calls": [
            {"type": "function", "id": "7", "function": {"name": "add", "arguments": '{"left": 2}'}}
        ]
    }
    assert to_template_message(spelled, "separate")["tool_calls"] == calls
    answer = {"role": "tool", "content": "4", "tool_call_id": "7", "name": "add"}
    assert to_template_message(answer, "none") == answer
