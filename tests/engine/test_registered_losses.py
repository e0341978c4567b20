"""Losses of an experimenter's own, by name."""

import math

import numpy as np
import pytest
import torch

from tinker_rl import LoraConfig, losses, register_loss
from tinker_rl.engine.losses import LOSSES
from tinker_rl.errors import RequestError, ShapeError, UnknownNameError

POLICY = ("logprobs", "advantages")


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(losses, "_registered", {})


@pytest.fixture(scope="module")
def learner(make_learner):
    learner = make_learner()
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    return learner


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("budget", [16, 1000])
def test_a_registered_copy_of_a_built_in_loss_gives_the_same_bits(
    learner, run, take_gradients, make_data, name, budget
):
    spec = LOSSES[name]
    register_loss(
        "copy",
        spec.fn,
        inputs=spec.inputs,
        defaults=spec.defaults,
        optional=spec.optional,
        scope=spec.scope,
        mask=spec.mask,
    )
    learner.token_budget = budget
    data = make_data([12, 7, 9], keys=spec.inputs)
    built_in = run(learner.forward_backward("model:0", data, name))
    expected = take_gradients(learner)
    copied = run(learner.forward_backward("model:0", data, "copy"))
    assert equal(expected, take_gradients(learner))
    assert built_in.metrics["loss:sum"] == copied.metrics["loss:sum"]


@pytest.mark.parametrize("scope", ["token", "sequence"])
def test_options_and_inputs_reach_the_function(learner, run, take_gradients, make_data, scope):
    seen = []

    def spy(logprobs, inputs, config):
        seen.append((set(inputs), dict(config), inputs["sequence"].unique().tolist()))
        assert all(value.shape == logprobs.shape for value in inputs.values())
        return -logprobs * inputs["gain"] * config["scale"]

    register_loss(
        "spy", spy, inputs=["gain"], optional=["gain"], defaults={"scale": 1}, scope=scope
    )
    data = make_data([5, 3], keys=())
    output = run(learner.forward_backward("model:0", data, "spy", {"scale": 2}))
    names, config, sequences = seen[0]
    assert names == {"target_tokens", "gain", "sequence"}
    assert config == {"scale": 2.0}
    assert sequences == [0, 1]
    total = sum(out["logprobs"].to_numpy().sum() for out in output.loss_fn_outputs)
    assert output.metrics["loss:sum"] == pytest.approx(-2 * total, rel=1e-5)
    take_gradients(learner)


def test_a_loss_of_whole_sequences_sees_each_whole(learner, run, take_gradients, make_data):
    """The mean logprob of each datum, squared: no sum over tokens would do."""

    def squared_mean(logprobs, inputs, config):
        sequence = inputs["sequence"]
        count = torch.bincount(sequence)
        mean = torch.zeros(len(count)).index_add(0, sequence, logprobs) / count
        return (mean.square() / count)[sequence]

    register_loss("squared_mean", squared_mean, inputs=(), scope="sequence")

    def by_hand(data, logprobs):
        return sum(part.mean().square() for part in logprobs), {}

    data = make_data([12, 7, 9, 12], keys=())
    learner.token_budget = 20
    got = run(learner.forward_backward("model:0", data, "squared_mean"))
    one = take_gradients(learner)
    expected = run(learner.forward_backward("model:0", data, "custom", custom=by_hand))
    other = take_gradients(learner)
    assert got.metrics["loss:sum"] == pytest.approx(expected.metrics["loss:sum"], rel=1e-5)
    for key, value in other.items():
        torch.testing.assert_close(one[key], value, rtol=1e-4, atol=1e-4)


def raises(logprobs, inputs, config):
    raise KeyError("reference")


BAD = {
    "raises": raises,
    "a scalar": lambda logprobs, inputs, config: logprobs.sum(),
    "a number": lambda logprobs, inputs, config: float(logprobs.sum()),
    "detached": lambda logprobs, inputs, config: logprobs.detach(),
    "not finite": lambda logprobs, inputs, config: logprobs * math.inf,
    "gradient not finite": lambda logprobs, inputs, config: (logprobs * 0).sqrt(),
}


@pytest.mark.parametrize("bad", sorted(BAD))
@pytest.mark.parametrize("scope", ["token", "sequence"])
def test_a_loss_that_fails_leaves_the_gradients_as_they_were(
    learner, run, take_gradients, make_data, bad, scope
):
    register_loss("bad", BAD[bad], inputs=(), scope=scope)
    data = make_data([10, 4], keys=())
    run(learner.forward_backward("model:0", data, "cross_entropy"))
    before = {k: v.clone() for k, v in learner.adapter("model:0").gradients.items()}
    with pytest.raises(RequestError, match=r"expected|raised"):
        run(learner.forward_backward("model:0", data, "bad"))
    assert equal(before, learner.adapter("model:0").gradients)
    take_gradients(learner)


def test_what_a_registered_loss_needs_is_asked_for(learner, run, make_data):
    register_loss("mine", LOSSES["ppo"].fn, defaults={"clip_low_threshold": 0.8})
    with pytest.raises(ShapeError, match="'logprobs', which this loss needs"):
        run(learner.forward_backward("model:0", make_data([5], keys=()), "mine"))
    with pytest.raises(UnknownNameError, match="'clip_lo'"):
        run(
            learner.forward_backward("model:0", make_data([5], keys=POLICY), "mine", {"clip_lo": 1})
        )
    with pytest.raises(UnknownNameError, match=r"Did you mean 'mine'\?.*register_loss"):
        run(learner.forward_backward("model:0", make_data([5], keys=POLICY), "min"))


def test_positions_that_a_mask_leaves_out_cost_no_backward_pass(
    learner, run, take_gradients, make_data
):
    """And still get their logprobs."""
    calls = []

    def counting(logprobs, inputs, config):
        calls.append(len(logprobs))
        return -logprobs * inputs["weights"]

    register_loss("counting", counting, inputs=["weights"], mask="weights")
    (datum,) = make_data([20], keys=("weights",))
    used = int((datum.loss_fn_inputs["weights"].to_numpy() != 0).sum())
    output = run(learner.forward_backward("model:0", [datum], "counting"))
    assert calls == [used]
    plain = run(learner.forward_backward("model:0", [datum], "cross_entropy", forward_only=True))
    np.testing.assert_allclose(
        output.loss_fn_outputs[0]["logprobs"].to_numpy(),
        plain.loss_fn_outputs[0]["logprobs"].to_numpy(),
        atol=3e-5,
    )
    take_gradients(learner)
