"""The renderer for base models."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.errors import RequestError, UnknownNameError, UnsupportedError
from tinker_rl.renderers import ParseTermination, TrainOnWhat

# Few examples a property, for each runs on several tokenizers; the first one builds them.
quick = settings(max_examples=40, deadline=None)

STOP = "\n\nUser:"
shapes = pytest.mark.parametrize("shape", ["base", "llama3", "tiny"])


@pytest.fixture(scope="session")
def answers(texts):
    """Contents that the format can hold."""
    return texts.filter(lambda text: STOP not in text)


def decode(tokenizer, tokens):
    return tokenizer.decode(tokens, skip_special_tokens=False)


def spelled(messages):
    return "".join(f"{m['role'].capitalize()}: {m['content']}\n\n" for m in messages)


def bos(tokenizer):
    return tokenizer.bos_token or ""


@shapes
@quick
@given(data=st.data())
def test_a_prompt_is_paragraphs_and_the_header_of_who_answers(
    shape, data, tokenizers, renderer_of, conversations, answers
):
    messages = data.draw(conversations(last="user", answers=answers))
    renderer = renderer_of("role_colon", shape)
    role = data.draw(st.sampled_from(["assistant", "user"]))
    prompt = renderer.build_generation_prompt(messages, role=role, prefill=" The")
    text = f"{bos(tokenizers(shape))}{spelled(messages)}{role.capitalize()}: The"
    assert decode(tokenizers(shape), prompt.to_ints()) == text


@shapes
@quick
@given(data=st.data())
def test_an_episode_is_one_sequence(shape, data, tokenizers, renderer_of, conversations, answers):
    messages = data.draw(conversations(last="assistant", answers=answers))
    renderer = renderer_of("role_colon", shape)
    sequence = []
    for i in (i for i in range(1, len(messages)) if messages[i]["role"] == "assistant"):
        prompt = renderer.build_generation_prompt(messages[:i]).to_ints()
        example, weights = renderer.build_supervised_example(messages[: i + 1])
        tokens = example.to_ints()
        if messages[i - 1]["role"] == "user":  # whose header ends the answer before
            assert prompt[: len(sequence)] == sequence
        assert tokens[: len(prompt)] == prompt
        assert weights.tolist() == [0] * len(prompt) + [1] * (len(tokens) - len(prompt))
        written = decode(tokenizers(shape), tokens[len(prompt) :])
        assert written == f" {messages[i]['content']}{STOP}"
        sequence = tokens


@shapes
@quick
@given(data=st.data())
def test_weights_of_every_mode(shape, data, tokenizers, renderer_of, conversations, answers):
    messages = data.draw(conversations(last="assistant", answers=answers))
    renderer = renderer_of("role_colon", shape)
    model_input, weights = renderer.build_supervised_example(messages, TrainOnWhat.ALL_MESSAGES)
    tokens = model_input.to_ints()
    pairs = list(zip(tokens, weights, strict=True))
    written = decode(tokenizers(shape), [token for token, weight in pairs if weight])
    headers = decode(tokenizers(shape), [token for token, weight in pairs if not weight])
    assert written == "".join(f" {m['content']}\n\n" for m in messages) + "User:"
    assert headers == bos(tokenizers(shape)) + "".join(
        f"{m['role'].capitalize()}:" for m in messages
    )


@shapes
@quick
@given(data=st.data())
def test_a_rendered_answer_is_parsed_back(shape, data, tokenizers, renderer_of, answers):
    answer = data.draw(answers)
    renderer = renderer_of("role_colon", shape)
    tokenizer = tokenizers(shape)
    tokens = tokenizer.encode(f" {answer}\n\n", add_special_tokens=False)
    stop = tokenizer.encode("User:", add_special_tokens=False)
    message, termination = renderer.parse_response([*tokens, *stop])
    assert message == {"role": "assistant", "content": answer}
    assert termination is ParseTermination.STOP_SEQUENCE
    message, termination = renderer.parse_response([*tokens, tokenizer.eos_token_id])
    assert message["content"] == answer
    assert termination is ParseTermination.EOS
    for cut in range(len(tokens) + 1):
        message, termination = renderer.parse_response(tokens[:cut])
        assert termination is ParseTermination.MALFORMED
        assert f"{answer}\n\n".startswith(message["content"].rstrip("\ufffd"))
    gone_on = [*tokens, *stop, *tokenizer.encode(" more")]
    message, termination = renderer.parse_response(gone_on)
    assert message["content"] == answer
    assert termination is ParseTermination.MALFORMED
    after_eos = [*tokens, tokenizer.eos_token_id, *tokens]
    assert not renderer.parse_response(after_eos)[1]
    assert not renderer.parse_response([*tokens, *stop, tokenizer.eos_token_id])[1]


@shapes
@quick
@given(data=st.data())
def test_extending_a_prompt_keeps_the_sampled_tokens(
    shape, data, tokenizers, renderer_of, conversations, texts, answers
):
    messages = data.draw(conversations(last="user", answers=answers))
    answer = data.draw(answers)
    new = [{"role": "user", "content": data.draw(texts)}]
    renderer = renderer_of("role_colon", shape)
    prompt = renderer.build_generation_prompt(messages)
    answered = [*messages, {"role": "assistant", "content": answer}]
    example = renderer.build_supervised_example(answered)[0].to_ints()
    extended = renderer.extend_generation_prompt(prompt, example[prompt.length :], new)
    assert extended == renderer.build_generation_prompt([*answered, *new])
    # Not ended by the header of a user turn, or followed by another turn than a user's.
    assert renderer.extend_generation_prompt(prompt, example[prompt.length : -1], new) is None
    system = [{"role": "system", "content": "b"}]
    assert renderer.extend_generation_prompt(prompt, example[prompt.length :], system) is None


def test_it_stops_before_the_next_user_turn(renderer_of):
    renderer = renderer_of("role_colon", "base")
    assert renderer.get_stop_sequences() == [STOP]
    assert renderer.has_extension_property


def test_an_answer_that_holds_the_stop_sequence_is_refused(renderer_of):
    renderer = renderer_of("role_colon", "base")
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": f"b{STOP} c"}]
    with pytest.raises(RequestError, match=r"messages\[1\]: expected an answer without"):
        renderer.build_supervised_example(messages)


def test_what_the_format_lacks_is_refused(renderer_of):
    renderer = renderer_of("role_colon", "base")
    tools = [{"name": "add", "description": "", "parameters": {}}]
    question = {"role": "user", "content": "a"}
    with pytest.raises(UnsupportedError, match="messages without tools"):
        renderer.build_generation_prompt([question], tools=tools)
    thinking = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}
    with pytest.raises(UnsupportedError, match="expected plain text"):
        renderer.build_supervised_example([question, thinking])
    with pytest.raises(RequestError, match="expected a role of this format; got 'oracle'"):
        renderer.build_generation_prompt([question], role="oracle")
    with pytest.raises(UnknownNameError):
        renderer_of("roll_colon", "base")
