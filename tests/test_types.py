import math

import msgspec
import numpy as np
import pytest
import tinker
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinker_rl.errors import ShapeError, UnsupportedError
from tinker_rl.requests import ForwardBackward, Sample
from tinker_rl.types import (
    MASKED_LOGPROB,
    AdamParams,
    Checkpoint,
    Datum,
    EncodedTextChunk,
    ForwardBackwardOutput,
    LogprobList,
    LoraConfig,
    ModelInput,
    SampledSequence,
    SampleResponse,
    SamplingParams,
    TensorData,
    TopkLogprobs,
    decode,
    encode,
)

arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
ids = st.lists(st.integers(0, 2**31), max_size=6)

# ----------------------------------------------------------------------------------- ModelInput


@given(pieces=st.lists(ids, max_size=4), token=st.integers(0, 100))
def test_a_model_input_is_its_tokens_in_order(pieces, token):
    whole = ModelInput(tuple(EncodedTextChunk(tuple(piece)) for piece in pieces))
    flat = [each for piece in pieces for each in piece]
    assert whole.to_ints() == flat
    assert whole.length == len(flat)
    assert ModelInput.from_ints(flat).to_ints() == flat
    assert whole.append(EncodedTextChunk((1, 2))).to_ints() == [*flat, 1, 2]
    assert whole.append_int(token).to_ints() == [*flat, token]
    assert whole.to_ints() == flat  # the others are new
    assert decode(encode(whole), ModelInput) == whole
    assert hash(whole) == hash(ModelInput(list(whole.chunks)))


def test_tokens_may_be_numbers_of_numpy_and_torch():
    for tokens in (np.array([1, 2]), torch.tensor([1, 2]), iter([1, 2]), [np.int64(1), True + 1]):
        made = ModelInput.from_ints(tokens)
        assert made == ModelInput.from_ints([1, 2])
        assert all(type(token) is int for token in made.to_ints())
        assert encode(made)
    assert ModelInput.empty().length == 0


@pytest.mark.parametrize("tokens", [[1.0], ["a"], [None], np.array([1.5]), [[1]]])
def test_other_tokens_are_refused(tokens):
    with pytest.raises(ShapeError, match="expected token ids"):
        ModelInput.from_ints(tokens)


def test_images_are_refused():
    with pytest.raises(UnsupportedError, match="Images and audio are not supported"):
        ModelInput(({"type": "image"},))


def test_a_model_input_cannot_be_changed():
    made = ModelInput.from_ints([1])
    with pytest.raises(AttributeError):
        made.chunks = ()
    assert isinstance(made.chunks[0].tokens, tuple)


# ----------------------------------------------------------------------------------- TensorData


@given(array=arrays)
def test_a_tensor_is_float32_or_int64_of_the_same_shape_and_values(array):
    with np.errstate(over="ignore"):
        expected = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    data = TensorData(array)
    assert data.dtype == str(expected.dtype)
    assert data.shape == list(array.shape)
    np.testing.assert_array_equal(data.to_numpy(), expected)
    np.testing.assert_array_equal(data.to_torch().numpy(), expected)
    np.testing.assert_array_equal(np.reshape(data.tolist(), array.shape), expected)
    np.testing.assert_array_equal(data.data, expected.ravel())
    again = decode(encode(data), TensorData)
    np.testing.assert_array_equal(again.to_numpy(), expected)
    assert again.to_numpy().dtype == expected.dtype
    for each in (data, again):
        with pytest.raises(ValueError, match="read-only"):
            each.to_numpy()[...] = 0


@given(array=arrays)
def test_the_callers_own_array_stays_writeable(array):
    copy = array.copy()
    TensorData.from_numpy(array)
    assert array.flags.writeable
    np.testing.assert_array_equal(array, copy)


def test_a_tensor_of_a_device_comes_as_a_copy_on_the_host():
    tensor = torch.tensor([1.5, -2.0], dtype=torch.bfloat16, requires_grad=True)
    assert TensorData.from_torch(tensor).tolist() == [1.5, -2.0]
    assert TensorData.from_torch(torch.tensor([True, False])).tolist() == [1, 0]
    data = TensorData(np.zeros(2, np.float32))
    data.to_torch()[0] = 9
    assert data.tolist() == [0, 0]


def test_strided_arrays_become_contiguous():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    data = TensorData(array)
    assert data.to_numpy().flags.c_contiguous
    np.testing.assert_array_equal(data.to_numpy(), array)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array([1j])])
def test_what_is_no_number_is_refused(array):
    with pytest.raises(ShapeError, match="expected numbers"):
        TensorData(array)


def test_a_number_too_large_for_float32_becomes_infinite():
    assert TensorData(np.array([1e300])).tolist() == [math.inf]


# ---------------------------------------------------------------------------------------- Datum


@given(values=st.lists(st.integers(0, 1000), max_size=5), kind=st.integers(0, 4))
def test_loss_inputs_may_be_lists_arrays_or_tensors(values, kind):
    made = [
        values,
        np.array(values, np.int32),
        np.array(values, np.float64),
        torch.tensor(values, dtype=torch.int64),
        TensorData(np.array(values, np.int64)),
    ][kind]
    datum = Datum(ModelInput.from_ints([1]), {"target_tokens": made, "weights": made})
    assert datum.loss_fn_inputs["target_tokens"].dtype == "int64"
    assert datum.loss_fn_inputs["weights"].dtype == "float32"
    for data in datum.loss_fn_inputs.values():
        assert data.tolist() == values
    again = decode(encode(datum), Datum)
    assert again.model_input == datum.model_input
    assert {k: v.tolist() for k, v in again.loss_fn_inputs.items()} == {
        "target_tokens": values,
        "weights": values,
    }


@pytest.mark.parametrize("value", [[[1, 2], [3]], "abc", [None], [{}]])
def test_ragged_or_foreign_inputs_are_refused_by_name(value):
    with pytest.raises(ShapeError, match=r"expected .*numbers"):
        Datum(ModelInput.from_ints([1]), {"weights": value})


@pytest.mark.parametrize("value", [[1.5], [math.nan], [math.inf]])
def test_target_tokens_are_integers(value):
    with pytest.raises(ShapeError, match=r"\['target_tokens'\]: expected integers"):
        Datum(ModelInput.from_ints([1]), {"target_tokens": value})


# ------------------------------------------------------------------------------------- results


def test_results_keep_their_arrays_over_the_codec():
    topk = TopkLogprobs(
        np.array([[1, 2], [0, 0]], np.int32),
        np.array([[-0.5, -1.0], [MASKED_LOGPROB] * 2], np.float32),
    )
    sequence = SampledSequence(
        stop_reason="stop",
        tokens_np=np.array([1, 2], np.int32),
        logprobs_np=np.array([-1.0, -2.0], np.float32),
        topk_logprobs_np=topk,
    )
    response = SampleResponse(
        sequences=[sequence, SampledSequence(stop_reason="length", tokens_np=np.array([3]))],
        prompt_logprobs_np=np.array([np.nan, -3.0], np.float32),
        topk_prompt_logprobs_np=topk,
    )
    for each in (response, decode(encode(response), SampleResponse)):
        first, second = each.sequences
        assert (first.tokens, first.logprobs) == ([1, 2], [-1.0, -2.0])
        assert first.topk_logprobs == [[(1, -0.5), (2, -1.0)], None]
        assert (second.tokens, second.logprobs, second.topk_logprobs) == ([3], None, None)
        assert each.prompt_logprobs == [None, -3.0]
        assert each.topk_prompt_logprobs == [[(1, -0.5), (2, -1.0)], None]
    empty = SampleResponse(sequences=[])
    assert (empty.prompt_logprobs, empty.topk_prompt_logprobs) == (None, None)


def test_logprobs_of_nan_are_none():
    made = LogprobList.from_numpy(np.array([np.nan, -1.0], np.float32))
    assert made == [None, -1.0]


def test_metrics_that_are_not_finite_survive_the_codec():
    output = ForwardBackwardOutput(
        loss_fn_outputs=[{"logprobs": TensorData(np.array([np.nan, -np.inf], np.float32))}],
        metrics={"loss:sum": math.inf},
    )
    again = decode(encode(output), ForwardBackwardOutput)
    assert again.metrics == {"loss:sum": math.inf}
    np.testing.assert_array_equal(
        again.loss_fn_outputs[0]["logprobs"].to_numpy(), [np.nan, -np.inf]
    )


@given(
    stop=st.none() | st.text() | st.lists(st.text()) | st.lists(st.integers(0, 9)),
    seed=st.none() | st.integers(0, 2**63 - 1),
    temperature=st.floats(0, 3),
)
@settings(max_examples=30)
def test_requests_survive_the_codec(stop, seed, temperature):
    sample = Sample(
        sampler_id="a:sample:0",
        prompt=ModelInput.from_ints([1, 2]),
        num_samples=3,
        sampling_params=SamplingParams(stop=stop, seed=seed, temperature=temperature),
    )
    assert decode(encode(sample), Sample) == sample
    train = ForwardBackward(
        model_id="a:train:0",
        data=[Datum(ModelInput.from_ints([1]), {"weights": [1.0]})],
        loss_fn="ppo",
        loss_fn_config={"clip_low_threshold": 0.5, "mode": "text"},
    )
    again = decode(encode(train), ForwardBackward)
    assert again.loss_fn_config == train.loss_fn_config
    assert again.data[0].loss_fn_inputs["weights"].tolist() == [1.0]


def test_what_does_not_fit_is_an_error_with_its_place():
    with pytest.raises(msgspec.ValidationError, match=r"\$\.rank"):
        decode(msgspec.msgpack.encode({"rank": "high"}), LoraConfig)
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.msgpack.encode({"checkpoint_id": "a"}), Checkpoint)
    assert decode(msgspec.msgpack.encode({"unknown": 1}), AdamParams) == AdamParams()
    with pytest.raises(TypeError, match="cannot store a object"):
        encode(object())


# -------------------------------------------------------------------------------- sparse tensors

MATRIX = np.array([[0, 7, 0], [0, 0, 0], [5, 0, 6]])
CSR = {"values": [7, 5, 6], "crow_indices": [0, 1, 1, 3], "col_indices": [1, 0, 2]}


@given(matrix=st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5))
def test_compressed_rows_become_the_matrix_they_stand_for(matrix):
    dense = np.array(matrix)
    official = tinker.TensorData.from_torch_sparse(torch.from_numpy(dense))
    datum = Datum(ModelInput.empty(), {"target_tokens": official, "weights": official})
    for key, dtype in (("target_tokens", "int64"), ("weights", "float32")):
        data = datum.loss_fn_inputs[key]
        np.testing.assert_array_equal(data.to_numpy(), dense)
        assert data.dtype == dtype
        assert data.sparse_crow_indices is data.sparse_col_indices is None


def test_cells_that_are_not_listed_hold_the_pad_value():
    data = TensorData.from_sparse_csr(**CSR, shape=[3, 3], pad_value=-1)
    np.testing.assert_array_equal(data.to_numpy(), np.where(MATRIX == 0, -1, MATRIX))
    empty = TensorData.from_sparse_csr([], [0, 0], [], [1, 2])
    np.testing.assert_array_equal(empty.to_numpy(), np.zeros((1, 2)))


def test_sparse_tensors_of_torch_are_taken():
    sparse = torch.from_numpy(MATRIX).to_sparse_coo()
    for data in (TensorData.from_torch(sparse), TensorData.from_torch_sparse(sparse)):
        np.testing.assert_array_equal(data.to_numpy(), MATRIX)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": [9]},
        {"shape": [2, 3]},
        {"crow_indices": [0, 2, 1, 3]},
        {"crow_indices": [1, 1, 1, 3]},
        {"crow_indices": [0, 1, 1, 2]},
        {"col_indices": [1, 0]},
        {"col_indices": [1, 0, 3]},
        {"col_indices": [1, 0, -1]},
    ],
)
def test_indices_of_another_matrix_are_refused(wrong):
    with pytest.raises(ShapeError, match="from_sparse_csr: expected"):
        TensorData.from_sparse_csr(**{**CSR, "shape": [3, 3], **wrong})
