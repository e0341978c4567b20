import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinker_rl.engine.losses import LOSSES, get_loss, loss_config
from tinker_rl.errors import RequestError, UnknownNameError, UnsupportedError

# ------------------------------------------------------------------ references, one token a call
# Each gives the loss of a token and its derivative by the learner's logprob, in float64.


def cross_entropy(lp, token, _):
    return -token["weights"] * lp, -token["weights"]


def importance_sampling(lp, token, _):
    loss = -math.exp(lp - token["logprobs"]) * token["advantages"]
    return loss, loss


def ppo(lp, token, config):
    ratio, advantage = math.exp(lp - token["logprobs"]), token["advantages"]
    clipped = min(max(ratio, config["clip_low_threshold"]), config["clip_high_threshold"])
    if clipped * advantage < ratio * advantage:
        return -clipped * advantage, 0.0
    return -ratio * advantage, -ratio * advantage


def cispo(lp, token, config):
    ratio = math.exp(lp - token["logprobs"])
    clipped = min(max(ratio, config["clip_low_threshold"]), config["clip_high_threshold"])
    return -clipped * lp * token["advantages"], -clipped * token["advantages"]


def dro(lp, token, config):
    gap = lp - token["logprobs"]
    loss = -(lp * token["advantages"] - config["beta"] / 2 * gap**2)
    return loss, -token["advantages"] + config["beta"] * gap


def gspo(lp, token, config):
    """Of one token, once the ratio of its sequence is known."""
    ratio, advantage = token["sequence_ratio"], token["advantages"]
    clipped = min(max(ratio, config["clip_low_threshold"]), config["clip_high_threshold"])
    if clipped * advantage < ratio * advantage:
        return -clipped * advantage, 0.0
    return -ratio * advantage, -ratio * advantage


def sequence_ratio(datum):
    gaps = [lp - token["logprobs"] for lp, token in datum if token["sequence_ratio_mask"]]
    return math.exp(sum(gaps) / len(gaps)) if gaps else 1.0


REFERENCES = {f.__name__: f for f in (cross_entropy, importance_sampling, ppo, cispo, dro, gspo)}

logprob = st.floats(-30, 0, width=32)
amount = st.just(0.0) | st.floats(-8, 8, width=32)  # masked, or of any sign
token = st.fixed_dictionaries(
    {
        "logprobs": logprob,
        "advantages": amount,
        "weights": amount,
        "sequence_ratio_mask": st.sampled_from([0.0, 1.0]),
    }
)
batches = st.lists(st.lists(st.tuples(logprob, token), min_size=1, max_size=6), min_size=1)
thresholds = st.tuples(st.floats(1 / 64, 1, width=32), st.floats(1, 50, width=32))


def tensors(batch):
    """The flat [N] tensors that a micro-batch of ragged datums comes to."""
    flat = [pair for datum in batch for pair in datum]
    logprobs = torch.tensor([lp for lp, _ in flat], requires_grad=True)
    keys = ("logprobs", "advantages", "weights", "sequence_ratio_mask")
    inputs = {k: torch.tensor([values[k] for _, values in flat]) for k in keys}
    sizes = torch.tensor([len(datum) for datum in batch])
    inputs["sequence"] = torch.arange(len(batch)).repeat_interleave(sizes)
    return logprobs, inputs


@pytest.mark.parametrize("name", sorted(REFERENCES))
@given(batch=batches, drawn=thresholds, beta=st.floats(0, 2, width=32), default=st.booleans())
@settings(max_examples=60)
def test_values_and_gradients_equal_the_formula(name, batch, drawn, beta, default):
    options = dict(zip(("clip_low_threshold", "clip_high_threshold"), drawn, strict=True))
    options["beta"] = beta
    config = loss_config(name, None if default else {k: options[k] for k in LOSSES[name].defaults})
    pairs = [
        (lp, {**values, "sequence_ratio": sequence_ratio(datum)})
        for datum in batch
        for lp, values in datum
    ]
    for lp, values in pairs:  # at a threshold the gradient jumps, and rounding decides
        ratio = math.exp(lp - values["logprobs"])
        ratio = values["sequence_ratio"] if name == "gspo" else ratio
        bounds = (config.get(f"clip_{side}_threshold") for side in ("low", "high"))
        assume(all(not bound or abs(ratio / bound - 1) > 2e-5 for bound in bounds))
    expected = [REFERENCES[name](lp, values, config) for lp, values in pairs]
    logprobs, inputs = tensors(batch)
    loss = get_loss(name).fn(logprobs, inputs, config)
    loss.sum().backward()
    np.testing.assert_allclose(loss.detach(), [v for v, _ in expected], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(logprobs.grad, [g for _, g in expected], rtol=1e-4, atol=1e-5)


def test_inputs_options_and_defaults_are_those_of_the_api():
    policy = ("logprobs", "advantages")
    assert {name: (spec.inputs, spec.defaults) for name, spec in LOSSES.items()} == {
        "cross_entropy": (("weights",), {}),
        "importance_sampling": (policy, {}),
        "ppo": (policy, {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}),
        "cispo": (policy, {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0}),
        "dro": (policy, {"beta": 0.05}),
        "gspo": (
            (*policy, "sequence_ratio_mask"),
            {"clip_low_threshold": 0.9997, "clip_high_threshold": 1.0004},
        ),
    }


@pytest.mark.parametrize("name", ["importance_sampling", "ppo", "cispo"])
@given(q=st.sampled_from([-99999.0, -1e30, -200.0, 200.0]), lp=logprob)
@settings(max_examples=20)
def test_a_masked_position_may_hold_any_sampler_logprob(name, q, lp):
    logprobs = torch.tensor([lp, lp], requires_grad=True)
    inputs = {"logprobs": torch.tensor([q, lp]), "advantages": torch.tensor([0.0, 1.0])}
    loss = get_loss(name).fn(logprobs, inputs, loss_config(name, None))
    loss.sum().backward()
    assert loss[0] == 0
    assert logprobs.grad[0] == 0
    assert logprobs.grad[1] == -1


@pytest.mark.parametrize("name", ["ppo", "cispo"])
def test_a_ratio_that_overflows_is_clipped_like_any_other(name):
    logprobs = torch.tensor([-1.0], requires_grad=True)
    inputs = {"logprobs": torch.tensor([-300.0]), "advantages": torch.tensor([2.0])}
    config = loss_config(name, None)
    high = config["clip_high_threshold"]
    loss = get_loss(name).fn(logprobs, inputs, config)
    loss.sum().backward()
    expected = {"ppo": (-2 * high, 0.0), "cispo": (2 * high, -2 * high)}[name]
    assert (loss.item(), logprobs.grad.item()) == pytest.approx(expected)


# ------------------------------------------------------------------------------- names, options


def test_a_loss_that_is_not_published_is_refused_and_says_why():
    with pytest.raises(UnsupportedError, match="its formula is not published"):
        get_loss("stable_reinforce")


@given(name=st.text().filter(lambda n: n not in {*LOSSES, "stable_reinforce"}))
@settings(max_examples=20)
def test_an_unknown_loss_is_told_the_known_ones(name):
    with pytest.raises(UnknownNameError, match="Known: cispo, cross_entropy"):
        get_loss(name)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_an_unknown_option_is_refused(name):
    with pytest.raises(UnknownNameError, match="clip_low"):
        loss_config(name, {"clip_low": 0.5})


@pytest.mark.parametrize("value", [math.nan, math.inf, "much", None, [1.0]])
def test_an_option_that_is_no_finite_number_is_refused(value):
    with pytest.raises(RequestError, match="expected a finite number"):
        loss_config("dro", {"beta": value})


@pytest.mark.parametrize("name", ["ppo", "cispo", "gspo"])
def test_thresholds_the_wrong_way_round_are_refused(name):
    """Epsilons, for one: they are no bounds of the ratio."""
    with pytest.raises(RequestError, match="bound the ratio itself"):
        loss_config(name, {"clip_low_threshold": 0.3, "clip_high_threshold": 0.2})


def test_gspo_gives_each_token_the_ratio_of_its_sequence_and_its_own_gradient():
    logprobs = torch.tensor([-1.0, -2.0, -3.0, -1.0], requires_grad=True)
    inputs = {
        "logprobs": torch.tensor([-1.5, -99999.0, -2.9, -1.0]),
        "advantages": torch.tensor([1.0, 0.0, 1.0, 1.0]),
        "sequence_ratio_mask": torch.tensor([1.0, 0.0, 1.0, 0.0]),
        "sequence": torch.tensor([0, 0, 0, 1]),
    }
    config = {"clip_low_threshold": 0.0, "clip_high_threshold": 9.0}
    loss = get_loss("gspo").fn(logprobs, inputs, config)
    loss.sum().backward()
    ratio = math.exp((0.5 - 0.1) / 2)
    expected = [-ratio, 0, -ratio, -1]
    np.testing.assert_allclose(loss.detach(), expected, rtol=1e-6)
    np.testing.assert_allclose(logprobs.grad, expected, rtol=1e-6)


def test_an_option_may_come_as_text():
    assert loss_config("ppo", {"clip_low_threshold": "0.5"})["clip_low_threshold"] == 0.5
