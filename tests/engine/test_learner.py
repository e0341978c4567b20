import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import AdamParams, Datum, LoraConfig, ModelInput
from tinker_rl.errors import RequestError

POLICY = ("logprobs", "advantages")
INPUTS = {
    "cross_entropy": ("weights",),
    "importance_sampling": POLICY,
    "ppo": POLICY,
    "cispo": POLICY,
    "dro": POLICY,
    "gspo": (*POLICY, "sequence_ratio_mask"),
}
lengths = st.lists(st.integers(1, 24), min_size=1, max_size=6)


@pytest.fixture
def adapter(learner):
    """A fresh adapter, no longer at its start: there the first factor has no gradient."""
    fresh = learner.create("model:0", LoraConfig(rank=4, seed=0))
    with torch.no_grad():
        for name, parameter in fresh.params.items():
            if "lora_B" in name:
                generator = torch.Generator().manual_seed(len(name))
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    yield fresh
    learner.remove("model:0")


def taken(adapter):
    """The gradients that wait for a step; they are gone from the adapter."""
    gradients, adapter.gradients = adapter.gradients, {}
    return gradients


def copied(adapter):
    return {name: gradient.clone() for name, gradient in adapter.gradients.items()}


def norm(gradients):
    return math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients.values()))


def distance(one, other):
    assert one.keys() == other.keys()
    return norm({name: one[name] - other[name] for name in one})


def logprobs(output):
    return np.concatenate([out["logprobs"].to_numpy() for out in output.loss_fn_outputs])


# ------------------------------------------------------------------------- micro-batches, sums


@given(lengths=lengths, budget=st.sampled_from([1, 30, 64]), loss=st.sampled_from(sorted(INPUTS)))
@settings(max_examples=12)
def test_micro_batches_change_nothing(llama, make_learner, run, make_data, lengths, budget, loss):
    data = make_data(lengths, keys=INPUTS[loss])
    learner = make_learner(llama)
    adapter = learner.create("model:0", LoraConfig(rank=4, seed=0))
    learner.token_budget = 10**6
    together = run(learner.forward_backward("model:0", data, loss))
    gradients = taken(adapter)
    learner.token_budget = budget
    apart = run(learner.forward_backward("model:0", data, loss))
    assert distance(gradients, taken(adapter)) <= 1e-5 * norm(gradients)
    one_by_one = [run(learner.forward_backward("model:0", [datum], loss)) for datum in data]
    assert distance(gradients, taken(adapter)) <= 1e-5 * norm(gradients)

    for other in (logprobs(apart), np.concatenate([logprobs(one) for one in one_by_one])):
        np.testing.assert_allclose(logprobs(together), other, atol=3e-5)
    shapes = [out["logprobs"].shape for out in together.loss_fn_outputs]
    assert shapes == [[length] for length in lengths]
    sums = [sum(one.metrics["loss:sum"] for one in one_by_one), apart.metrics["loss:sum"]]
    assert sums == pytest.approx([together.metrics["loss:sum"]] * 2, rel=1e-4, abs=1e-4)
    assert together.metrics["tokens:sum"] == sum(lengths)


def test_a_step_of_work_is_one_micro_batch(learner, adapter, make_data):
    learner.token_budget = 10
    steps = learner.forward_backward("model:0", make_data([10, 10, 10]), "cross_entropy")
    assert sum(1 for _ in steps) == 3


def test_logits_made_in_chunks_give_the_same_gradient(
    learner, adapter, run, make_data, monkeypatch
):
    data = make_data([40, 30])
    whole = run(learner.forward_backward("model:0", data, "cross_entropy"))
    expected = taken(adapter)
    monkeypatch.setattr("tinker_rl.engine.scoring.logits_chunk", lambda vocab_size, device: 16)
    chunked = run(learner.forward_backward("model:0", data, "cross_entropy"))
    np.testing.assert_allclose(logprobs(whole), logprobs(chunked), atol=3e-5)
    assert distance(expected, taken(adapter)) <= 1e-5 * norm(expected)
    forward = run(learner.forward_backward("model:0", data, "cross_entropy", forward_only=True))
    np.testing.assert_allclose(logprobs(whole), logprobs(forward), atol=3e-5)


def test_logprobs_and_gradients_are_those_of_the_plain_model(
    base_model, make_learner, run, make_data
):
    learner = make_learner(base_model)
    adapter = learner.create("model:0", LoraConfig(rank=4, seed=0))
    (datum,) = make_data([20])
    output = run(learner.forward_backward("model:0", [datum], "cross_entropy"))

    learner._model.zero_grad()
    logits = learner._model(input_ids=torch.tensor([datum.model_input.to_ints()])).logits[0]
    targets = datum.loss_fn_inputs["target_tokens"].to_torch()
    expected = logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]
    (-datum.loss_fn_inputs["weights"].to_torch() * expected).sum().backward()
    np.testing.assert_allclose(logprobs(output), expected.detach(), atol=3e-5)
    plain = {name: parameter.grad for name, parameter in adapter.params.items()}
    assert distance(plain, adapter.gradients) <= 1e-5 * norm(plain)


def test_gradients_add_up_over_requests(learner, adapter, run, make_data):
    data = make_data([12, 7, 9])
    run(learner.forward_backward("model:0", data, "cross_entropy"))
    whole = taken(adapter)
    for datum in data:
        run(learner.forward_backward("model:0", [datum], "cross_entropy"))
    assert distance(whole, adapter.gradients) <= 1e-5 * norm(whole)


def test_forward_gives_the_same_numbers_and_leaves_the_gradients(learner, adapter, run, make_data):
    data = make_data([12, 7], keys=POLICY)
    run(learner.forward_backward("model:0", data, "ppo"))
    before = copied(adapter)
    forward = run(learner.forward_backward("model:0", data, "ppo", forward_only=True))
    assert distance(before, adapter.gradients) == 0
    backward = run(learner.forward_backward("model:0", data, "ppo"))
    np.testing.assert_allclose(logprobs(forward), logprobs(backward), atol=1e-6)
    assert forward.metrics["loss:sum"] == pytest.approx(backward.metrics["loss:sum"])


# ----------------------------------------------------------------------------------- optimiser


adam = st.builds(
    AdamParams,
    learning_rate=st.sampled_from([0.0, 1e-4, 1e-2]),
    beta1=st.sampled_from([0.0, 0.9]),
    beta2=st.sampled_from([0.5, 0.95]),
    eps=st.sampled_from([1e-12, 1e-8, 1e-2]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    grad_clip_norm=st.sampled_from([0.0, 1e-3, 1e6]),
)


@given(options=st.lists(adam, min_size=1, max_size=3))
@settings(max_examples=10)
def test_optim_step_is_adamw_on_the_sum_of_gradients(llama, make_learner, run, make_data, options):
    learner = make_learner(llama)
    adapter = learner.create("model:0", LoraConfig(rank=2, seed=0))
    twins = [torch.nn.Parameter(p.detach().clone()) for p in adapter.params.values()]
    by_hand = torch.optim.AdamW(twins, foreach=False)
    for step, params in enumerate(options):
        run(learner.forward_backward("model:0", make_data([9], step), "cross_entropy"))
        run(learner.forward_backward("model:0", make_data([5], step + 10), "cross_entropy"))
        for twin, gradient in zip(twins, copied(adapter).values(), strict=True):
            twin.grad = gradient
        total = norm(adapter.gradients)
        if params.grad_clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(twins, params.grad_clip_norm)
        for group in by_hand.param_groups:
            group |= {
                "lr": params.learning_rate,
                "betas": (params.beta1, params.beta2),
                "eps": params.eps,
                "weight_decay": params.weight_decay,
            }
        by_hand.step()
        metrics = learner.optim_step("model:0", params).metrics
        assert metrics["grad_norm:mean"] == pytest.approx(total, rel=1e-4)
        assert metrics["learning_rate:mean"] == params.learning_rate
        assert not adapter.gradients
        assert adapter.steps == step + 1
        for twin, parameter in zip(twins, adapter.params.values(), strict=True):
            torch.testing.assert_close(parameter, twin, rtol=1e-5, atol=1e-7)


def test_the_default_is_not_to_clip(learner, adapter, run, make_data):
    run(learner.forward_backward("model:0", make_data([30]), "cross_entropy"))
    before = copied(adapter)
    learner.optim_step("model:0", AdamParams(beta1=0.5))
    state = [adapter.optimizer.state[p]["exp_avg"] for p in adapter.params.values()]
    for moment, gradient in zip(state, before.values(), strict=True):
        torch.testing.assert_close(moment, 0.5 * gradient)


def test_a_step_without_gradients_is_refused(learner, adapter, run, make_data):
    with pytest.raises(RequestError, match="expected gradients"):
        learner.optim_step("model:0", AdamParams())
    run(learner.forward_backward("model:0", make_data([5]), "cross_entropy", forward_only=True))
    with pytest.raises(RequestError, match="expected gradients"):
        learner.optim_step("model:0", AdamParams())
    run(learner.forward_backward("model:0", make_data([5]), "cross_entropy"))
    learner.optim_step("model:0", AdamParams())
    with pytest.raises(RequestError, match="expected gradients"):
        learner.optim_step("model:0", AdamParams())


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": -1e-4},
        {"learning_rate": math.nan},
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"eps": -1.0},
        {"weight_decay": math.inf},
        {"grad_clip_norm": -1.0},
    ],
)
def test_an_option_out_of_range_is_refused_and_costs_no_gradient(
    learner, adapter, run, make_data, bad
):
    run(learner.forward_backward("model:0", make_data([5]), "cross_entropy"))
    before = copied(adapter)
    with pytest.raises(RequestError, match=rf"AdamParams\.{next(iter(bad))}: expected"):
        learner.optim_step("model:0", AdamParams(**bad))
    assert distance(before, adapter.gradients) == 0


def test_a_sum_of_gradients_that_overflows_changes_no_weight(learner, adapter, run, make_data):
    run(learner.forward_backward("model:0", make_data([5]), "cross_entropy"))
    next(iter(adapter.gradients.values())).fill_(3e38)
    before = learner.weights("model:0")
    with pytest.raises(RequestError, match="finite gradient norm"):
        learner.optim_step("model:0", AdamParams())
    after = learner.weights("model:0")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not adapter.gradients


# ----------------------------------------------------------------------------------- atomicity


def changed(datum, **inputs):
    return Datum(datum.model_input, {**datum.loss_fn_inputs, **inputs})


BAD_DATA = {
    "NaN advantage": lambda d: changed(d, advantages=[math.nan] + [1.0] * 9),
    "infinite logprob": lambda d: changed(d, logprobs=[0.0] * 9 + [-math.inf]),
    "short logprobs": lambda d: changed(d, logprobs=[0.0] * 9),
    "long targets": lambda d: changed(d, target_tokens=[1] * 11),
    "target outside the vocabulary": lambda d: changed(d, target_tokens=[1] * 9 + [1024]),
    "negative target": lambda d: changed(d, target_tokens=[-1] + [1] * 9),
    "token outside the vocabulary": lambda d: Datum(
        ModelInput.from_ints([1] * 9 + [5000]), d.loss_fn_inputs
    ),
    "matrix of targets": lambda d: changed(d, target_tokens=[[1, 2]] * 10),
    "cube of targets": lambda d: changed(d, target_tokens=[[[1]]] * 10),
    "no target at all": lambda d: changed(d, target_tokens=np.zeros((10, 0))),
    "unknown input": lambda d: changed(d, advantage=[1.0] * 10),
    "no targets": lambda d: Datum(d.model_input, {k: d.loss_fn_inputs[k] for k in POLICY}),
    "no advantages": lambda d: Datum(
        d.model_input, {k: v for k, v in d.loss_fn_inputs.items() if k != "advantages"}
    ),
    "empty input": lambda d: Datum(ModelInput.empty(), d.loss_fn_inputs),
    "beyond the context": lambda d: Datum(
        ModelInput.from_ints([1] * 1025),
        {k: [1] * 1025 for k in ("target_tokens", *POLICY)},
    ),
    "loss that overflows": lambda d: changed(d, logprobs=[-200.0] * 10, advantages=[1.0] * 10),
    "gradient that overflows": lambda d: changed(
        d, logprobs=[-90.0] + [0.0] * 9, advantages=[1e6] + [0.0] * 9
    ),
}


@pytest.mark.parametrize("bad", sorted(BAD_DATA))
@pytest.mark.parametrize("budget", [10, 10**6])
def test_a_request_that_fails_leaves_the_gradients_as_they_were(
    learner, adapter, run, make_data, bad, budget
):
    learner.token_budget = budget  # in the last micro-batch of several, or in the only one
    good = make_data([10, 10], keys=POLICY)
    run(learner.forward_backward("model:0", good, "importance_sampling"))
    before = copied(adapter)
    data = [*good, BAD_DATA[bad](good[0])]
    with pytest.raises(RequestError):
        run(learner.forward_backward("model:0", data, "importance_sampling"))
    assert distance(before, adapter.gradients) == 0
    assert all(parameter.grad is None for parameter in adapter.params.values())


@pytest.mark.parametrize(
    ("loss", "config"),
    [
        ("stable_reinforce", None),
        ("entropy", None),
        ("ppo", {"clip": 0.2}),
        ("ppo", {"clip_low_threshold": "x"}),
    ],
)
def test_an_unknown_loss_or_option_leaves_the_gradients_as_they_were(
    learner, adapter, run, make_data, loss, config
):
    good = make_data([10], keys=POLICY)
    run(learner.forward_backward("model:0", good, "ppo"))
    before = copied(adapter)
    with pytest.raises(RequestError):
        run(learner.forward_backward("model:0", good, loss, config))
    assert distance(before, adapter.gradients) == 0


def raises(data, logprobs):
    raise KeyError("reference")


def leaves(data, logprobs):
    raise SystemExit(3)


BAD_LOSSES = {
    "raises": raises,
    "calls sys.exit": leaves,
    "not a scalar": lambda data, logprobs: (logprobs[0], {}),
    "detached": lambda data, logprobs: (logprobs[0].detach().sum(), {}),
    "a number": lambda data, logprobs: (float(logprobs[0].sum()), {}),
    "no metrics": lambda data, logprobs: logprobs[0].sum(),
    "metric that is no number": lambda data, logprobs: (logprobs[0].sum(), {"kind": "dpo"}),
    "not finite": lambda data, logprobs: (logprobs[0].sum() * math.inf, {}),
    "gradient not finite": lambda data, logprobs: ((logprobs[0] * 0).sqrt().sum(), {}),
}


@pytest.mark.parametrize("bad", sorted(BAD_LOSSES))
def test_a_custom_loss_that_fails_leaves_the_gradients_as_they_were(
    learner, adapter, run, make_data, bad
):
    data = make_data([10, 4])
    run(learner.forward_backward("model:0", data, "cross_entropy"))
    before = copied(adapter)
    with pytest.raises(RequestError):
        run(learner.forward_backward("model:0", data, "custom", custom=BAD_LOSSES[bad]))
    assert distance(before, adapter.gradients) == 0
    run(learner.forward_backward("model:0", data, "cross_entropy"))


@given(after=st.integers(0, 3))
@settings(max_examples=4)
def test_a_request_that_is_given_up_leaves_the_gradients_as_they_were(
    make_learner, run, make_data, after
):
    learner = make_learner(token_budget=8)
    adapter = learner.create("model:0", LoraConfig(rank=2, seed=0))
    data = make_data([8, 8, 8])
    run(learner.forward_backward("model:0", data, "cross_entropy"))
    before = copied(adapter)
    steps = learner.forward_backward("model:0", data, "cross_entropy")
    for _ in range(after):
        next(steps)
    steps.close()
    assert distance(before, adapter.gradients) == 0
    assert all(parameter.grad is None for parameter in adapter.params.values())


# --------------------------------------------------------------------------------- custom losses


def test_a_custom_cross_entropy_equals_the_built_in(learner, adapter, run, make_data):
    learner.token_budget = 16
    data = make_data([12, 7, 9])
    built_in = run(learner.forward_backward("model:0", data, "cross_entropy"))
    expected = taken(adapter)

    def cross_entropy(data, logprobs):
        weights = [datum.loss_fn_inputs["weights"].to_torch() for datum in data]
        loss = -sum((w * lp).sum() for w, lp in zip(weights, logprobs, strict=True))
        return loss, {"datums": len(data), "tokens:sum": sum(map(len, logprobs))}

    custom = run(learner.forward_backward("model:0", data, "custom", custom=cross_entropy))
    assert distance(expected, taken(adapter)) <= 1e-5 * norm(expected)
    np.testing.assert_allclose(logprobs(built_in), logprobs(custom), atol=3e-5)
    assert custom.metrics["loss:sum"] == pytest.approx(built_in.metrics["loss:sum"], rel=1e-5)
    assert custom.metrics["datums:mean"] == 3
    assert custom.metrics["tokens:sum"] == 28


def test_dpo_as_a_custom_loss_equals_its_direct_computation(learner, adapter, run, make_data):
    beta, chosen_reference, rejected_reference = 0.1, -60.0, -55.0
    data = make_data([12, 10], keys=())

    def loss_of(chosen, rejected):
        margin = (chosen - chosen_reference) - (rejected - rejected_reference)
        return -torch.nn.functional.logsigmoid(beta * margin)

    def dpo(data, logprobs):
        loss = loss_of(logprobs[0].sum(), logprobs[1].sum())
        return loss, {"dpo_loss": float(loss.detach())}

    output = run(learner.forward_backward("model:0", data, "custom", custom=dpo))
    sums = []
    for datum in data:
        ids = torch.tensor([datum.model_input.to_ints()])
        target = datum.loss_fn_inputs["target_tokens"].to_torch()[:, None]
        sums.append(learner._model(input_ids=ids).logits[0].log_softmax(-1).gather(1, target).sum())
    direct = loss_of(*sums)
    direct.backward()
    assert output.metrics["loss:sum"] == pytest.approx(float(direct), rel=1e-4)
    plain = {name: parameter.grad for name, parameter in adapter.params.items()}
    assert distance(plain, adapter.gradients) <= 1e-4 * norm(plain)
