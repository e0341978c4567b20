"""Several targets a position: distillation, label smoothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import Datum, LoraConfig, ModelInput, TensorData
from tinker_rl.errors import RequestError


@pytest.fixture(scope="module")
def learner(make_learner):
    learner = make_learner()
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    return learner


def csr(matrix):
    """A dense matrix, as the SDK sends it when that is shorter."""
    rows, columns = matrix.nonzero()
    starts = np.searchsorted(rows, np.arange(len(matrix) + 1))
    return TensorData.from_sparse_csr(matrix[rows, columns], starts, columns, matrix.shape)


@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    budget=st.sampled_from([9, 1000]),
)
@settings(max_examples=15)
def test_a_matrix_of_targets_is_the_sum_of_its_columns(
    learner, run, take_gradients, shapes, seed, budget
):
    """Ragged, of different K (0: a vector), sparse or not: as one datum for each column."""
    rng = np.random.default_rng(seed)
    learner.token_budget = budget
    dense, sparse, columns = [], [], []
    for length, k in shapes:
        tokens = ModelInput.from_ints(rng.integers(0, 2, length))
        shape = (length, k) if k else (length,)
        weights = rng.choice([0.0, 0.5, -1.0], shape)
        targets = np.where(weights == 0, 0, rng.integers(0, 1024, shape))
        dense.append(Datum(tokens, {"target_tokens": targets, "weights": weights}))
        packed = {"target_tokens": csr(targets), "weights": csr(weights)} if k else {}
        sparse.append(Datum(tokens, packed or dense[-1].loss_fn_inputs))
        for column in range(max(k, 1)):
            index = (slice(None), column) if k else slice(None)
            inputs = {"target_tokens": targets[index], "weights": weights[index]}
            columns.append(Datum(tokens, inputs))
    outputs, gradients = [], []
    for data in (dense, sparse, columns):
        outputs.append(run(learner.forward_backward("model:0", data, "cross_entropy")))
        gradients.append(take_gradients(learner))
    shapes_got = [out["logprobs"].shape for out in outputs[0].loss_fn_outputs]
    assert shapes_got == [datum.loss_fn_inputs["target_tokens"].shape for datum in dense]
    flat = [
        np.concatenate([out["logprobs"].to_numpy().T.ravel() for out in output.loss_fn_outputs])
        for output in outputs
    ]
    np.testing.assert_array_equal(flat[0], flat[1])
    np.testing.assert_allclose(flat[0], flat[2], atol=3e-5)
    assert outputs[0].metrics["loss:sum"] == outputs[1].metrics["loss:sum"]
    assert outputs[0].metrics["loss:sum"] == pytest.approx(
        outputs[2].metrics["loss:sum"], rel=1e-4, abs=1e-4
    )
    for key, value in gradients[2].items():
        assert torch.equal(gradients[0][key], gradients[1][key])
        torch.testing.assert_close(gradients[0][key], value, rtol=1e-4, atol=2e-4)


def test_a_distribution_over_targets_reaches_custom_losses(learner, run, take_gradients):
    """As the SDK's documentation has it: the loss reads any shape."""
    shares = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]], np.float32)
    datum = Datum(
        ModelInput.from_ints([1, 2, 3]),
        {"target_tokens": [[2, 3], [4, 0], [7, 8]], "target_distribution": shares},
    )

    def distil(data, logprobs):
        wanted = data[0].loss_fn_inputs["target_distribution"].to_torch()
        return -(wanted * logprobs[0]).sum(), {}

    custom = run(learner.forward_backward("model:0", [datum], "custom", custom=distil))
    one = take_gradients(learner)
    inputs = {"target_tokens": datum.loss_fn_inputs["target_tokens"], "weights": shares}
    plain = [Datum(datum.model_input, inputs)]
    built_in = run(learner.forward_backward("model:0", plain, "cross_entropy"))
    other = take_gradients(learner)
    assert custom.metrics["loss:sum"] == pytest.approx(built_in.metrics["loss:sum"], rel=1e-5)
    for key, value in other.items():
        torch.testing.assert_close(one[key], value, rtol=1e-4, atol=1e-4)


BAD = {
    "weights of one axis": {"weights": [1.0, 1.0]},
    "weights of another K": {"weights": [[1.0], [1.0]]},
    "target outside the vocabulary": {"target_tokens": [[1, 2], [3, 1024]]},
    "rows missing": {"target_tokens": [[1, 2]], "weights": [[1.0, 1.0]]},
    "infinite weight": {"weights": [[1.0, 1.0], [1.0, np.inf]]},
}


@pytest.mark.parametrize("bad", sorted(BAD))
def test_matrices_that_do_not_fit_are_refused(learner, run, bad):
    inputs = {"target_tokens": [[1, 2], [3, 4]], "weights": [[1.0, 0.5], [0.0, 1.0]], **BAD[bad]}
    datum = Datum(ModelInput.from_ints([5, 6]), inputs)
    with pytest.raises(RequestError, match=r"data\[0\].loss_fn_inputs\['\w+'\]: expected"):
        run(learner.forward_backward("model:0", [datum], "cross_entropy"))
