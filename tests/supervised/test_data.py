"""Conversations and weights to data: the shift by one, cutting, reductions, bad input."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import tinker_rl
from tinker_rl.errors import RequestError, ShapeError
from tinker_rl.renderers import TrainOnWhat, get_renderer
from tinker_rl.supervised.data import conversation_to_datum, datum_from_model_input_weights
from tinker_rl.types import EncodedTextChunk, ModelInput

MESSAGES = [
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3 + 3?"},
    {"role": "assistant", "content": "6"},
]


@pytest.fixture(scope="module")
def renderer():
    folder = Path(tinker_rl.__file__).parent / "assets" / "tiny"
    return get_renderer("qwen3_instruct", AutoTokenizer.from_pretrained(folder))


@given(
    tokens=st.lists(st.integers(0, 9), min_size=2, max_size=12),
    cut=st.none() | st.integers(2, 14),
    splits=st.integers(0, 12),
    data=st.data(),
)
def test_every_token_predicts_the_next_with_its_weight(tokens, cut, splits, data):
    number = st.floats(-2, 2, width=32)
    weights = data.draw(st.lists(number, min_size=len(tokens), max_size=len(tokens)))
    kept = len(tokens) if cut is None else min(cut, len(tokens))
    chunks = [tuple(tokens[:splits]), tuple(tokens[splits:])]
    model_input = ModelInput(tuple(EncodedTextChunk(chunk) for chunk in chunks if chunk))
    if any(weights[1:]) and not any(weights[1:kept]):
        with pytest.raises(RequestError, match="expected max_length >"):
            datum_from_model_input_weights(model_input, weights, cut)
        return
    datum = datum_from_model_input_weights(model_input, weights, cut)
    inputs = datum.loss_fn_inputs
    assert datum.model_input.to_ints() == tokens[: kept - 1]
    assert inputs["target_tokens"].tolist() == tokens[1:kept]
    assert inputs["weights"].tolist() == weights[1:kept]
    assert inputs["target_tokens"].dtype == "int64"
    assert inputs["weights"].dtype == "float32"


@given(weights=st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=20))
def test_the_mean_makes_weights_sum_to_one(weights):
    model_input = ModelInput.from_ints(range(len(weights)))
    datum = datum_from_model_input_weights(model_input, weights, reduction="mean")
    mean = datum.loss_fn_inputs["weights"].to_numpy()
    trained = sum(weights[1:])
    np.testing.assert_allclose(mean.sum(), 1.0 if trained else 0.0, rtol=1e-6)
    assert np.count_nonzero(mean) == trained
    assert len(set(mean[mean > 0].tolist())) <= 1


def test_a_conversation_becomes_a_datum(renderer):
    model_input, weights = renderer.build_supervised_example(
        MESSAGES, TrainOnWhat.ALL_ASSISTANT_MESSAGES
    )
    tokens = model_input.to_ints()
    datum = conversation_to_datum(MESSAGES, renderer, None, reduction="none")
    assert datum.model_input.to_ints() == tokens[:-1]
    assert datum.loss_fn_inputs["target_tokens"].tolist() == tokens[1:]
    assert datum.loss_fn_inputs["weights"].tolist() == weights[1:].tolist()
    trained = renderer.tokenizer.decode(np.array(tokens[1:])[weights[1:] == 1])
    assert trained == "4<|im_end|>6<|im_end|>"
    mean = conversation_to_datum(MESSAGES, renderer, 512).loss_fn_inputs["weights"].to_numpy()
    np.testing.assert_allclose(mean.sum(), 1.0, rtol=1e-6)
    last = conversation_to_datum(
        MESSAGES, renderer, None, TrainOnWhat.LAST_ASSISTANT_MESSAGE, reduction="none"
    )
    assert (
        last.loss_fn_inputs["weights"].to_numpy().sum() == len(renderer.tokenizer.encode("6")) + 1
    )


def test_a_conversation_longer_than_the_limit_is_cut_after_its_first_answer(renderer):
    prompt = renderer.build_generation_prompt(MESSAGES[:1]).length
    datum = conversation_to_datum(MESSAGES, renderer, prompt + 1, reduction="none")
    assert datum.loss_fn_inputs["weights"].tolist() == [0] * (prompt - 1) + [1]
    with pytest.raises(RequestError, match=f"expected max_length > {prompt}, .* got {prompt}"):
        conversation_to_datum(MESSAGES, renderer, prompt)


@pytest.mark.parametrize(
    ("tokens", "weights", "options", "kind", "says"),
    [
        ([1, 2, 3], [1, 1], {}, ShapeError, r"expected weights of shape \[3\]"),
        ([1, 2], [[1], [1]], {}, ShapeError, r"got \[2, 1\]"),
        ([1], [1], {}, ShapeError, "expected two tokens or more"),
        ([], [], {}, ShapeError, "expected two tokens or more"),
        ([1, 2], [0, 1], {"max_length": 1}, ShapeError, "got 2 tokens and max_length=1"),
        ([1, 2], [0, 1], {"max_length": -1}, ShapeError, "max_length=-1"),
        ([1, 2], [0, float("nan")], {}, RequestError, "expected finite weights; got nan"),
        ([1, 2], [0, float("inf")], {}, RequestError, "expected finite weights; got inf"),
        ([1, 2], [0, 1], {"reduction": "meen"}, RequestError, "Did you mean 'mean'"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tokens, weights, options, kind, says):
    with pytest.raises(kind, match=says):
        datum_from_model_input_weights(ModelInput.from_ints(tokens), weights, **options)


def test_a_conversation_without_an_answer_at_its_end_is_refused(renderer):
    with pytest.raises(RequestError, match="ends with an assistant message"):
        conversation_to_datum(MESSAGES[:3], renderer, None)
    with pytest.raises(RequestError, match="empty conversation"):
        conversation_to_datum([], renderer, None)
