"""Formats of the library: the templates' tokens, exact weights, and back to messages."""

import logging
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinker_rl.errors import RequestError, UnsupportedError
from tinker_rl.renderers import ParseTermination, TrainOnWhat, get_renderer
from tinker_rl.renderers.library import warn_of_history

# Few examples a property, for each runs on several tokenizers; the first one builds them.
quick = settings(max_examples=40, deadline=None)

# The name of a renderer and the shape of tokenizer whose chat template it must equal.
TEMPLATES = [
    ("qwen3_instruct", "tiny"),
    ("qwen3_instruct", "qwen3_instruct"),
    ("qwen3", "qwen3"),
    ("llama3", "llama3"),
]
STABLE = [pair for pair in TEMPLATES if pair[0] != "qwen3"]
END = {"llama3": "<|eot_id|>"}

templates = pytest.mark.parametrize(("name", "shape"), TEMPLATES)
stable = pytest.mark.parametrize(("name", "shape"), STABLE)


def apply_template(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, return_dict=False, **options)


def starts_with_line_break(text):
    return re.match(r"\s*[\r\n]", text) is not None


def decode(tokenizer, tokens):
    return tokenizer.decode(tokens, skip_special_tokens=False)


@templates
@quick
@given(data=st.data())
def test_a_prompt_is_token_for_token_that_of_the_chat_template(
    name, shape, data, tokenizers, renderer_of, texts, conversations
):
    # An answer in the history that begins with a line break: the template joins it with the line
    # break of the header, which the model, sampling after the header, cannot do.
    answers = texts.filter(lambda text: not starts_with_line_break(text))
    messages = data.draw(conversations(answers=answers))
    tokenizer = tokenizers(shape)
    prompt = renderer_of(name, shape).build_generation_prompt(messages)
    assert prompt.to_ints() == apply_template(tokenizer, messages, add_generation_prompt=True)


@templates
@quick
@given(data=st.data())
def test_an_example_is_the_chat_template_up_to_its_last_stop_token(
    name, shape, data, tokenizers, renderer_of, texts, conversations
):
    answers = texts.filter(lambda text: not starts_with_line_break(text))
    messages = data.draw(conversations(last="assistant", answers=answers))
    tokenizer = tokenizers(shape)
    renderer = renderer_of(name, shape)
    tokens = renderer.build_supervised_example(messages)[0].to_ints()
    expected = apply_template(tokenizer, messages)
    assert tokens == expected[: len(tokens)]
    assert tokens[-1] == renderer.get_stop_sequences()[0]
    assert decode(tokenizer, expected[len(tokens) :]).strip() == ""


@stable
@quick
@given(data=st.data())
def test_weights_pick_out_what_the_trained_messages_say(
    name, shape, data, tokenizers, renderer_of, conversations
):
    mode = data.draw(st.sampled_from(TrainOnWhat))
    messages = data.draw(conversations(last="assistant"))
    for message in messages:
        # A line break that a header ends with and one that a content begins with may be one token.
        if message["role"] != "assistant":
            message["content"] = message["content"].lstrip()
    if mode == TrainOnWhat.CUSTOMIZED:
        for message in messages:
            message["trainable"] = data.draw(st.booleans())
    trained = expected_trained(messages, mode)
    assume(trained)
    tokenizer = tokenizers(shape)
    model_input, weights = renderer_of(name, shape).build_supervised_example(messages, mode)
    tokens = model_input.to_ints()
    assert weights.dtype == np.float32
    assert weights.shape == (len(tokens),)
    if mode == TrainOnWhat.ALL_TOKENS:
        assert weights.all()
        return
    content = str.strip if name == "llama3" else str
    end = END.get(name, "<|im_end|>")
    written = decode(tokenizer, [t for t, weight in zip(tokens, weights, strict=True) if weight])
    assert written == "".join(content(messages[i]["content"]) + end for i in trained)


def expected_trained(messages, mode):
    roles = [message["role"] for message in messages]
    assistant = [i for i, role in enumerate(roles) if role == "assistant"]
    last_user = max((i for i, role in enumerate(roles) if role == "user"), default=-1)
    return {
        TrainOnWhat.LAST_ASSISTANT_MESSAGE: assistant[-1:],
        TrainOnWhat.LAST_ASSISTANT_TURN: [i for i in assistant if i > last_user],
        TrainOnWhat.ALL_ASSISTANT_MESSAGES: assistant,
        TrainOnWhat.ALL_MESSAGES: list(range(len(roles))),
        TrainOnWhat.ALL_TOKENS: list(range(len(roles))),
        TrainOnWhat.ALL_USER_AND_SYSTEM_MESSAGES: [
            i for i, role in enumerate(roles) if role in ("user", "system")
        ],
        TrainOnWhat.CUSTOMIZED: [i for i, m in enumerate(messages) if m.get("trainable")],
    }[mode]


@stable
@quick
@given(data=st.data())
def test_every_prompt_of_an_episode_extends_the_one_before(
    name, shape, data, tokenizers, renderer_of, conversations
):
    messages = data.draw(conversations(last="assistant"))
    renderer = renderer_of(name, shape)
    assert renderer.has_extension_property
    sequence = []
    for i, message in enumerate(messages[1:], start=1):
        if message["role"] != "assistant":
            continue
        prompt = renderer.build_generation_prompt(messages[:i]).to_ints()
        example = renderer.build_supervised_example(messages[: i + 1])[0].to_ints()
        assert prompt[: len(sequence)] == sequence
        assert example[: len(prompt)] == prompt
        sequence = example


@templates
@quick
@given(data=st.data())
def test_a_rendered_answer_is_parsed_back(
    name, shape, data, tokenizers, renderer_of, conversations, texts
):
    answer = data.draw(texts)
    messages = data.draw(conversations(last="user"))
    renderer = renderer_of(name, shape)
    prompt = renderer.build_generation_prompt(messages).to_ints()
    answered = [*messages, {"role": "assistant", "content": answer}]
    tokens = renderer.build_supervised_example(answered)[0].to_ints()[len(prompt) :]
    message, termination = renderer.parse_response(tokens)
    # Llama 3's template trims answers; hybrid Qwen3's has line breaks between reasoning and answer.
    content = {"llama3": answer.strip(), "qwen3": answer.lstrip()}.get(name, answer)
    assert message == {"role": "assistant", "content": content}
    assert termination is ParseTermination.STOP_SEQUENCE
    assert termination


@templates
@quick
@given(data=st.data())
def test_an_answer_without_its_end_is_malformed(name, shape, data, tokenizers, renderer_of, texts):
    tokenizer = tokenizers(shape)
    renderer = renderer_of(name, shape)
    tokens = tokenizer.encode(data.draw(texts), add_special_tokens=False)
    cut = tokens[: data.draw(st.integers(0, len(tokens)))]
    message, termination = renderer.parse_response(cut)
    assert termination is ParseTermination.MALFORMED
    assert not termination
    assert message["content"] == decode(tokenizer, cut) or name == "qwen3"


@templates
@quick
@given(data=st.data())
def test_the_first_stop_token_ends_an_answer(name, shape, data, tokenizers, renderer_of, texts):
    tokenizer = tokenizers(shape)
    renderer = renderer_of(name, shape)
    stop = renderer.get_stop_sequences()[0]
    tokens = [*tokenizer.encode(data.draw(texts), add_special_tokens=False), stop]
    rest = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=4))
    whole, ended = renderer.parse_response(tokens)
    longer, gone_on = renderer.parse_response([*tokens, *rest])
    assert longer == whole
    assert ended is ParseTermination.STOP_SEQUENCE
    assert gone_on is ParseTermination.MALFORMED


@stable
@quick
@given(data=st.data())
def test_extending_a_prompt_keeps_the_sampled_tokens(
    name, shape, data, tokenizers, renderer_of, conversations
):
    messages = data.draw(conversations(last="user"))
    new = [data.draw(conversations(last="user", system=False))[-1]]
    tokenizer = tokenizers(shape)
    renderer = renderer_of(name, shape)
    prompt = renderer.build_generation_prompt(messages)
    words = st.integers(0, tokenizer.vocab_size - 1).filter(
        lambda token: token not in tokenizer.added_tokens_decoder
    )
    sampled = data.draw(st.lists(words, max_size=8))
    action = [*sampled, renderer.get_stop_sequences()[0]]
    extended = renderer.extend_generation_prompt(prompt, action, new)
    assert extended is not None
    whole = [*prompt.to_ints(), *action]
    assert extended.to_ints()[: len(whole)] == whole
    # Spelled as the tokenizer spells them, it is the very prompt of the whole conversation.
    text = decode(tokenizer, sampled)
    if tokenizer.encode(text, add_special_tokens=False) == sampled and text == text.strip():
        answered = [*messages, {"role": "assistant", "content": text}, *new]
        assert extended == renderer.build_generation_prompt(answered)


def test_an_extension_is_refused_where_it_would_rewrite_history(tokenizers):
    renderer = get_renderer("qwen3", tokenizers("qwen3"))
    prompt = renderer.build_generation_prompt([{"role": "user", "content": "2 + 2?"}])
    action = [*renderer.tokenizer.encode("4"), renderer.get_stop_sequences()[0]]
    again = [{"role": "user", "content": "Again?"}]
    assert renderer.extend_generation_prompt(prompt, action, again) is None


def test_an_extension_is_refused_where_it_would_drop_sampled_tokens(tokenizers):
    renderer = get_renderer("qwen3_instruct", tokenizers("qwen3"))
    prompt = renderer.build_generation_prompt([{"role": "user", "content": "2 + 2?"}])
    action = [*renderer.tokenizer.encode("4"), renderer.get_stop_sequences()[0]]
    again = [{"role": "user", "content": "Again?"}]
    assert renderer.extend_generation_prompt(prompt, action, again) is not None
    assert renderer.extend_generation_prompt(prompt, [*action, 5], again) is None


def test_the_document_end_is_a_clean_end_but_not_the_stop_sequence(tiny_tokenizer):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    tokens = tiny_tokenizer.encode("four<|endoftext|>")
    message, termination = renderer.parse_response(tokens)
    assert message["content"] == "four"
    assert termination is ParseTermination.EOS
    assert termination.is_clean
    assert not termination.is_stop_sequence


def test_parsing_takes_the_array_that_sampling_gives(tiny_tokenizer):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    tokens = np.array(tiny_tokenizer.encode("four<|im_end|>"), dtype=np.int32)
    assert renderer.parse_response(tokens)[0] == {"role": "assistant", "content": "four"}


# -------------------------------------------------------------------------------------- reasoning


def test_reasoning_becomes_a_part_and_is_framed_again(tokenizers):
    tokenizer = tokenizers("qwen3")
    renderer = get_renderer("qwen3", tokenizer)
    content = [{"type": "thinking", "thinking": "two and two"}, {"type": "text", "text": "4 "}]
    messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": content}]
    prompt = renderer.build_generation_prompt(messages[:1]).to_ints()
    tokens = renderer.build_supervised_example(messages)[0].to_ints()
    spelled = [
        messages[0],
        {"role": "assistant", "reasoning_content": "two and two", "content": "4 "},
    ]
    assert tokens == apply_template(tokenizer, spelled)[: len(tokens)]
    parsed, termination = renderer.parse_response(tokens[len(prompt) :])
    assert parsed == messages[1]
    assert termination


@quick
@given(data=st.data())
def test_an_instruct_model_may_reason_in_its_text(data, tiny_tokenizer, texts):
    thinking = data.draw(texts.filter(bool))
    text = data.draw(texts)
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    spelled = f"<think>{thinking}</think>{text}"
    tokens = tiny_tokenizer.encode(f"{spelled}<|im_end|>")
    message, termination = renderer.parse_response(tokens)
    parts = [{"type": "thinking", "thinking": thinking}]
    assert message["content"] == parts + ([{"type": "text", "text": text}] if text else [])
    assert termination
    question = {"role": "user", "content": "2 + 2?"}
    prompt = renderer.build_generation_prompt([question]).to_ints()
    for answer in (message, {"role": "assistant", "content": spelled}):
        example = renderer.build_supervised_example([question, answer])[0].to_ints()
        assert example == [*prompt, *tokens]


def test_reasoning_is_refused_where_the_format_has_no_place_for_it(tokenizers):
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}]
    messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": content}]
    with pytest.raises(UnsupportedError, match="format without reasoning"):
        get_renderer("llama3", tokenizers("llama3")).build_supervised_example(messages)
    renderer = get_renderer("qwen3_disable_thinking", tokenizers("qwen3"))
    assert renderer.disables_thinking
    with pytest.raises(RequestError, match="answers without reasoning"):
        renderer.build_supervised_example(messages)


def test_a_prompt_without_thinking_carries_the_closed_block_and_no_weight_on_it(tokenizers):
    tokenizer = tokenizers("qwen3")
    renderer = get_renderer("qwen3_disable_thinking", tokenizer)
    messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    prompt = renderer.build_generation_prompt(messages[:1]).to_ints()
    options = {"add_generation_prompt": True, "enable_thinking": False}
    assert prompt == apply_template(tokenizer, messages[:1], **options)
    model_input, weights = renderer.build_supervised_example(messages)
    tokens = model_input.to_ints()
    assert tokens[: len(prompt)] == prompt
    assert weights[: len(prompt)].sum() == 0
    assert decode(tokenizer, np.array(tokens)[weights == 1]) == "4<|im_end|>"


def test_a_format_that_rewrites_history_warns_and_gives_each_turn_its_own_example(
    tokenizers, caplog
):
    renderer = get_renderer("qwen3", tokenizers("qwen3"))
    messages = [
        {"role": role, "content": text}
        for role, text in [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    ]
    warn_of_history.cache_clear()
    with caplog.at_level(logging.WARNING):
        renderer.build_supervised_example(messages, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
        renderer.build_supervised_example(messages, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    assert caplog.text.count("build_supervised_examples gives each turn its own") == 1
    caplog.clear()
    warn_of_history.cache_clear()
    examples = renderer.build_supervised_examples(messages, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    assert not caplog.text
    for (model_input, weights), end in zip(examples, (1, 3), strict=True):
        prompt = renderer.build_generation_prompt(messages[:end]).to_ints()
        assert model_input.to_ints()[: len(prompt)] == prompt
        assert weights.tolist() == [0] * len(prompt) + [1] * (model_input.length - len(prompt))
    with pytest.raises(UnsupportedError, match="train_on_what about assistant messages"):
        renderer.build_supervised_examples(messages, TrainOnWhat.ALL_MESSAGES)
    (only,) = get_renderer("qwen3_instruct", tokenizers("qwen3")).build_supervised_examples(
        messages
    )
    assert only[1].sum() == 2
