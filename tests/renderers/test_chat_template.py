"""The renderer for any tokenizer with a chat template."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.errors import ConfigError, RequestError, UnsupportedError
from tinker_rl.renderers import ParseTermination, TrainOnWhat, get_renderer

# Few examples a property, for each runs on several tokenizers; the first one builds them.
quick = settings(max_examples=40, deadline=None)

SHAPES = ["tiny", "qwen3", "llama3", "turns", "open"]
shapes = pytest.mark.parametrize("shape", SHAPES)


def apply_template(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, return_dict=False, **options)


def decode(tokenizer, tokens):
    return tokenizer.decode(tokens, skip_special_tokens=False)


def starts_with_line_break(text):
    return re.match(r"\s*[\r\n]", text) is not None


@pytest.fixture(scope="session")
def plain_conversations(conversations, texts):
    """Conversations that also strict templates take, and whose turns do not merge at their ends."""

    @st.composite
    def draw_conversation(draw, turns=3):
        messages = [{"role": "user", "content": draw(texts)}]
        for _ in range(draw(st.integers(0, turns - 1))):
            answer = draw(texts.filter(lambda text: not starts_with_line_break(text)))
            messages += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": draw(texts)},
            ]
        return messages

    return draw_conversation()


@shapes
@quick
@given(data=st.data())
def test_a_prompt_is_the_template_itself(shape, data, tokenizers, renderer_of, plain_conversations):
    messages = data.draw(plain_conversations)
    prompt = renderer_of("chat_template", shape).build_generation_prompt(messages)
    expected = apply_template(tokenizers(shape), messages, add_generation_prompt=True)
    assert prompt.to_ints() == expected


@shapes
@quick
@given(data=st.data())
def test_an_example_is_its_prompt_and_an_answer_that_ends(
    shape, data, tokenizers, renderer_of, plain_conversations, texts
):
    tokenizer = tokenizers(shape)
    renderer = renderer_of("chat_template", shape)
    messages = data.draw(plain_conversations)
    answer = data.draw(texts.filter(lambda text: not starts_with_line_break(text)))
    prompt = renderer.build_generation_prompt(messages).to_ints()
    messages = [*messages, {"role": "assistant", "content": answer}]
    model_input, weights = renderer.build_supervised_example(messages)
    tokens = model_input.to_ints()
    assert tokens[: len(prompt)] == prompt
    assert weights.tolist() == [0] * len(prompt) + [1] * (len(tokens) - len(prompt))
    assert tokens[-1] == renderer.get_stop_sequences()[0]
    template = apply_template(tokenizer, messages)
    written = tokens if shape != "open" else tokens[:-1]  # it leaves the last answer open
    assert template[: len(written)] == written
    message, termination = renderer.parse_response(tokens[len(prompt) :])
    assert termination is ParseTermination.STOP_SEQUENCE
    assert message["content"].strip() == answer.strip()
    assert not renderer.parse_response(tokens[len(prompt) : -1])[1]


@pytest.mark.parametrize(
    ("name", "shape"),
    [("qwen3_instruct", "tiny"), ("qwen3", "qwen3"), ("llama3", "llama3")],
)
@quick
@given(data=st.data())
def test_it_agrees_with_the_renderer_of_the_family(
    name, shape, data, renderer_of, plain_conversations, texts
):
    messages = data.draw(plain_conversations)
    answer = data.draw(texts.filter(lambda text: not starts_with_line_break(text)))
    messages = [*messages, {"role": "assistant", "content": answer}]
    modes = [TrainOnWhat.LAST_ASSISTANT_MESSAGE, TrainOnWhat.LAST_ASSISTANT_TURN]
    if name != "qwen3":  # whose template rewrites the turns that became history
        modes.append(TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    mode = data.draw(st.sampled_from(modes))
    ours, our_weights = renderer_of("chat_template", shape).build_supervised_example(messages, mode)
    other, other_weights = renderer_of(name, shape).build_supervised_example(messages, mode)
    assert ours == other
    assert our_weights.tolist() == other_weights.tolist()


@quick
@given(data=st.data())
def test_an_answer_that_merges_with_its_header_stays_the_templates(
    data, tokenizers, renderer_of, texts
):
    answer = "\n" + data.draw(texts)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}]
    tokenizer = tokenizers("tiny")
    model_input, weights = renderer_of("chat_template", "tiny").build_supervised_example(messages)
    tokens = model_input.to_ints()
    assert tokens == apply_template(tokenizer, messages)[: len(tokens)]
    written = decode(tokenizer, [t for t, weight in zip(tokens, weights, strict=True) if weight])
    assert f"{answer}<|im_end|>".endswith(written)


def test_reasoning_is_taken_out_of_the_text_and_framed_again(tokenizers, renderer_of):
    tokenizer = tokenizers("qwen3")
    renderer = renderer_of("chat_template", "qwen3")
    tokens = tokenizer.encode("<think>\ntwo and two\n</think>\n\n4<|im_end|>")
    message, termination = renderer.parse_response(tokens)
    assert termination
    assert message["content"] == [
        {"type": "thinking", "thinking": "two and two"},
        {"type": "text", "text": "4"},
    ]
    question = {"role": "user", "content": "2 + 2?"}
    prompt = renderer.build_generation_prompt([question]).to_ints()
    example, _ = renderer.build_supervised_example([question, message])
    assert example.to_ints() == [*prompt, *tokens]


def test_reasoning_that_the_prompt_opens_goes_on_in_the_answer(tokenizers):
    tokenizer = tokenizers("turns")
    with_opening = tokenizer.chat_template + "{% if add_generation_prompt %}<think>\n{% endif %}"
    opening = with_template(tokenizer, with_opening)
    renderer = get_renderer("chat_template", opening)
    message, termination = renderer.parse_response(opening.encode("hm</think>4<end_of_turn>"))
    assert termination
    assert message["content"] == [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "4"},
    ]
    cut, termination = renderer.parse_response(opening.encode("hm"))
    assert cut["content"] == [{"type": "thinking", "thinking": "hm"}]
    assert not termination


def test_history_that_the_template_rewrites_is_not_trained_on(renderer_of):
    renderer = renderer_of("chat_template", "qwen3")
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    messages = [{"role": role, "content": text} for role, text in turns]
    with pytest.raises(UnsupportedError, match=r"what came before messages\[1\]"):
        renderer.build_supervised_example(messages, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    examples = renderer.build_supervised_examples(messages, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    assert len(examples) == 2
    assert renderer.build_supervised_example(messages, TrainOnWhat.ALL_TOKENS)[1].all()


def test_other_turns_than_the_assistants_are_not_trained_on(renderer_of):
    renderer = renderer_of("chat_template", "tiny")
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(UnsupportedError, match=r"expected to train on the roles \['assistant'\]"):
        renderer.build_supervised_example(messages, TrainOnWhat.ALL_MESSAGES)
    with pytest.raises(UnsupportedError, match="got the answer first"):
        renderer.build_supervised_example(messages[1:])
    with pytest.raises(UnsupportedError, match="role 'assistant' to answer"):
        renderer.build_generation_prompt(messages, role="user")
    assert (
        renderer.extend_generation_prompt(
            renderer.build_generation_prompt(messages[:1]), [1], messages[:1]
        )
        is None
    )


def test_what_the_template_refuses_names_its_reason(renderer_of):
    renderer = renderer_of("chat_template", "turns")
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    with pytest.raises(RequestError, match="turns must alternate"):
        renderer.build_generation_prompt(messages)


def test_a_tokenizer_without_a_template_is_refused(tokenizers):
    with pytest.raises(ConfigError, match=r"without one\. Use 'role_colon'"):
        get_renderer("chat_template", tokenizers("base"))


def with_template(tokenizer, template):
    """The tokenizer with another chat template; the shared one stays as it is."""
    import copy

    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed
