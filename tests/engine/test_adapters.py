"""Adapters side by side over one base model, and what of it each of them trains."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import AdamParams, LoraConfig
from tinker_rl.errors import ConfigError


def train(learner, run, name, data, steps=2):
    """Weights after some steps, a request at a time."""
    for step in range(steps):
        yield run(learner.forward_backward(name, data[step : step + 2], "cross_entropy"))
        yield learner.optim_step(name, AdamParams(learning_rate=1e-2, weight_decay=0.01))


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


CONFIGS = [
    LoraConfig(rank=5, seed=0),
    LoraConfig(rank=2, seed=1, train_mlp=False),
    LoraConfig(rank=16, seed=2),
]


@pytest.fixture(scope="module")
def trained_alone(llama, make_learner, run, make_data):
    weights = []
    for seed, config in enumerate(CONFIGS):
        learner = make_learner(llama)
        learner.create("model:x", config)
        list(train(learner, run, "model:x", make_data([9, 6, 11], seed)))
        weights.append(learner.weights("model:x"))
    return weights


@given(order=st.lists(st.sampled_from([0, 1, 2]), min_size=12, max_size=12))
@settings(max_examples=5)
def test_adapters_over_one_base_do_not_disturb_each_other(
    llama, make_learner, run, make_data, trained_alone, order
):
    learner = make_learner(llama)
    for i, config in enumerate(CONFIGS):
        learner.create(f"model:{i}", config)
    data = [make_data([9, 6, 11], seed) for seed in range(3)]
    work = [train(learner, run, f"model:{i}", data[i]) for i in range(3)]
    for i in [*order, *[0] * 4, *[1] * 4, *[2] * 4]:
        next(work[i], None)
    for i in range(3):
        assert equal(learner.weights(f"model:{i}"), trained_alone[i])


def test_removing_an_adapter_leaves_the_others(learner, run, make_data):
    data = make_data([9, 6, 11])
    learner.create("model:1", LoraConfig(rank=4, seed=1))
    learner.create("model:2", LoraConfig(rank=8, seed=2))
    work = train(learner, run, "model:1", data)
    next(work)
    learner.remove("model:2")
    list(work)
    weights = learner.weights("model:1")
    learner.remove("model:1")
    learner.create("model:1", LoraConfig(rank=4, seed=1))
    list(train(learner, run, "model:1", data))
    assert equal(weights, learner.weights("model:1"))
    learner.remove("model:1")
    with pytest.raises(KeyError):
        learner.adapter("model:1")


def test_the_same_seed_gives_the_same_bytes_whatever_else_there_is(make_learner):
    learner = make_learner()
    learner.create("model:0", LoraConfig(rank=4, seed=7))
    torch.manual_seed(123)
    state = torch.get_rng_state()
    learner.create("model:1", LoraConfig(rank=4, seed=7))
    assert torch.equal(state, torch.get_rng_state())
    learner.create("model:2", LoraConfig(rank=4, seed=8))
    learner.create("model:3", LoraConfig(rank=4))
    weights = [learner.weights(f"model:{i}") for i in range(4)]
    assert equal(weights[0], weights[1])
    assert not equal(weights[0], weights[2])
    assert not equal(weights[0], weights[3])
    drawn = learner.adapter("model:3").config.seed
    learner.create("model:4", LoraConfig(rank=4, seed=drawn))
    assert equal(weights[3], learner.weights("model:4"))


def test_a_new_adapter_changes_no_logprob(base_model, make_learner, run, make_data):
    learner = make_learner(base_model)
    (datum,) = make_data([15])
    ids = torch.tensor([datum.model_input.to_ints()])
    target = datum.loss_fn_inputs["target_tokens"].to_torch()[:, None]
    with torch.no_grad():
        plain = learner._model(input_ids=ids).logits[0].log_softmax(-1).gather(1, target)[:, 0]
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    output = run(learner.forward_backward("model:0", [datum], "cross_entropy", forward_only=True))
    got = output.loss_fn_outputs[0]["logprobs"].to_numpy()
    np.testing.assert_allclose(got, plain, atol=3e-5)


@pytest.mark.parametrize("attn", [True, False])
@pytest.mark.parametrize("mlp", [True, False])
@pytest.mark.parametrize("unembed", [True, False])
def test_only_what_the_flags_name_is_trained(
    base_model, make_learner, run, make_data, attn, mlp, unembed
):
    config = LoraConfig(rank=2, seed=0, train_attn=attn, train_mlp=mlp, train_unembed=unembed)
    learner = make_learner(base_model)
    base = {name: p.clone() for name, p in learner._model.named_parameters()}
    if not (attn or mlp or unembed):
        with pytest.raises(ConfigError, match="at least one of train_attn"):
            learner.create("model:0", config)
        return
    adapter = learner.create("model:0", config)
    parts = {"self_attn": attn, "mlp": mlp, "lm_head": unembed}
    for part, wanted in parts.items():
        assert any(part in name for name in adapter.params) == wanted
    assert all(any(part in name for part in parts) for name in adapter.params)
    before = learner.weights("model:0")
    for step in range(2):  # in the first, only the second factor has a gradient
        run(learner.forward_backward("model:0", make_data([20], step), "cross_entropy"))
        learner.optim_step("model:0", AdamParams(learning_rate=1e-3))
    after = learner.weights("model:0")
    assert not any(torch.equal(before[name], after[name]) for name in before)
    now = dict(learner._model.named_parameters())
    for name, value in base.items():  # tied or not, the base stays as it was
        path = f"base_model.model.{name}"
        inner = path.replace(".weight", ".base_layer.weight")
        assert torch.equal(value, now.get(inner, now.get(path)))


@pytest.mark.parametrize("rank", [0, -1, 1.5, "8", None])
def test_a_rank_that_is_no_positive_integer_is_refused(learner, rank):
    with pytest.raises(ConfigError, match=r"LoraConfig\.rank: expected an integer of 1 or more"):
        learner.create("model:9", LoraConfig(rank=rank))
