"""What every renderer promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.renderers import ParseTermination, TrainOnWhat
from tinker_rl.types import ModelInput

# Few examples a property, for each runs on several tokenizers; the first one builds them.
quick = settings(max_examples=40, deadline=None)

PAIRS = [
    ("qwen3_instruct", "tiny"),
    ("qwen3", "qwen3"),
    ("llama3", "llama3"),
    ("role_colon", "base"),
    ("chat_template", "tiny"),
]
pairs = pytest.mark.parametrize(("name", "shape"), PAIRS)


def test_a_termination_is_a_flag_and_a_value():
    assert bool(ParseTermination.STOP_SEQUENCE)
    assert bool(ParseTermination.EOS)
    assert not ParseTermination.MALFORMED
    assert ParseTermination.MALFORMED == "malformed"
    assert [t for t in ParseTermination if t.is_clean] == ["stop_sequence", "eos"]
    assert [t for t in ParseTermination if t.is_stop_sequence] == ["stop_sequence"]


@pairs
@quick
@given(data=st.data())
def test_any_tokens_parse_to_a_message(name, shape, data, tokenizers, renderer_of):
    size = len(tokenizers(shape))
    tokens = data.draw(st.lists(st.integers(0, size - 1), max_size=12))
    message, termination = renderer_of(name, shape).parse_response(tokens)
    assert message["role"] == "assistant"
    assert isinstance(message["content"], str | list)
    assert isinstance(termination, ParseTermination)
    if not tokens:
        assert termination is ParseTermination.MALFORMED


@pairs
@quick
@given(data=st.data())
def test_a_prefill_follows_the_prompt(name, shape, data, tokenizers, renderer_of, texts):
    prefill = data.draw(texts)
    messages = [{"role": "user", "content": "2 + 2?"}]
    renderer = renderer_of(name, shape)
    prompt = renderer.build_generation_prompt(messages).to_ints()
    filled = renderer.build_generation_prompt(messages, prefill=prefill)
    encoded = tokenizers(shape).encode(prefill, add_special_tokens=False)
    assert filled == ModelInput.from_ints([*prompt, *encoded])
    assert renderer.build_generation_prompt(messages, prefill=None).to_ints() == prompt


@pairs
@quick
@given(data=st.data())
def test_building_leaves_the_messages_as_they_were(name, shape, data, renderer_of, texts):
    text = data.draw(texts).replace("User:", "")
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    before = [dict(message) for message in messages]
    renderer = renderer_of(name, shape)
    first = renderer.build_supervised_example(messages)
    renderer.build_generation_prompt(messages)
    again = renderer.build_supervised_example(tuple(messages))
    assert messages == before
    assert first[0] == again[0]
    assert np.array_equal(first[1], again[1])


@pairs
def test_all_tokens_trains_the_tokens_of_the_other_modes(name, shape, renderer_of):
    messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    renderer = renderer_of(name, shape)
    last, weights = renderer.build_supervised_example(messages)
    everything, ones = renderer.build_supervised_example(messages, TrainOnWhat.ALL_TOKENS)
    if name != "chat_template":  # which knows no turn's end where it trains no turn
        assert everything == last
    assert everything.to_ints()[: last.length] == last.to_ints()
    assert ones.tolist() == [1] * everything.length
    assert weights.dtype == ones.dtype == np.float32
