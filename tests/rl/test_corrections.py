import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl import Datum, LoraConfig, ModelInput
from tinker_rl.engine.base_model import context_length, load_base_model
from tinker_rl.engine.learner import Learner
from tinker_rl.errors import ConfigError
from tinker_rl.rl.corrections import resolve_loss

TIS = "truncated_importance_sampling"
options = st.none() | st.dictionaries(
    st.sampled_from(["clip_high_threshold", "x"]), st.floats(1, 2)
)


@given(
    loss=st.sampled_from(["ppo", "cispo", "importance_sampling", "my_own"]),
    options=options,
    is_off_policy=st.booleans(),
)
def test_a_loss_that_is_named_goes_through_unchanged(loss, options, is_off_policy):
    assert resolve_loss(loss, options, is_off_policy) == (loss, options)


@given(options=options)
def test_without_a_name_the_schedule_decides(options):
    assert resolve_loss(None, options, is_off_policy=True) == ("ppo", options)
    assert resolve_loss(None, options, is_off_policy=False) == ("importance_sampling", options)


@pytest.fixture(scope="module")
def learner():
    model = load_base_model("tiny", torch.device("cpu"), torch.float32)
    return Learner(model, "tiny", context_length("tiny", model))


@pytest.fixture(scope="module")
def adapter(learner):
    """No longer at its start, where the first factor has no gradient."""
    adapter = learner.create("model:0", LoraConfig(rank=4, seed=0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapter.params.items():
            if "lora_B" in name:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return adapter


def sampled_data(seed):
    """Ratios from far below to far above any bound, advantages of both signs, and of 0."""
    rng = np.random.default_rng(seed)
    return [
        Datum(
            ModelInput.from_ints(rng.integers(0, 1024, length)),
            {
                "target_tokens": rng.integers(0, 1024, length),
                "logprobs": (-14 * rng.random(length)).astype(np.float32),
                "advantages": (rng.normal(size=length) * rng.integers(0, 2, length)).astype("f4"),
            },
        )
        for length in (12, 7)
    ]


def gradients_of(learner, adapter, steps):
    for _ in steps:
        pass
    gradients, adapter.gradients = adapter.gradients, {}
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


@pytest.mark.parametrize("max_ratio", [None, 0.5, 2.0, 30.0])
def test_truncated_importance_sampling_has_the_gradient_of_its_formula(learner, adapter, max_ratio):
    bound = 2.0 if max_ratio is None else max_ratio
    name, config = resolve_loss(TIS, None if max_ratio is None else {"max_ratio": bound}, True)
    data = sampled_data(seed=1)
    ours = gradients_of(learner, adapter, learner.forward_backward("model:0", data, name, config))
    ratios = []

    def by_the_formula(data, logprobs):
        loss = torch.tensor(0.0)
        for datum, learned in zip(data, logprobs, strict=True):
            inputs = {key: value.to_torch() for key, value in datum.loss_fn_inputs.items()}
            ratio = torch.exp(learned - inputs["logprobs"]).detach()
            ratios.extend(ratio.tolist())
            loss = loss - (ratio.clamp(max=bound) * inputs["advantages"] * learned).sum()
        return loss, {}

    steps = learner.forward_backward("model:0", data, "custom", custom=by_the_formula)
    expected = gradients_of(learner, adapter, steps)
    assert min(ratios) < bound < max(ratios)
    assert float(expected.norm()) > 0
    assert float((ours - expected).norm()) <= 1e-5 * float(expected.norm())


@pytest.mark.parametrize(
    "config",
    [{"max_ratio": 0}, {"max_ratio": math.nan}, {"max_ratio": "many"}, {"clip_high_threshold": 2}],
)
def test_options_that_truncated_importance_sampling_does_not_have_are_refused(config):
    with pytest.raises(ConfigError, match=r"loss_fn_config.*expected .*; got .*\."):
        resolve_loss(TIS, config, is_off_policy=True)
