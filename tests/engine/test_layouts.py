"""Every layout gives the logprobs and gradients of sequences one by one; a model gets the best it
computes exactly."""

import copy
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AttentionMaskInterface,
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
)

from tinker_rl import Datum, LoraConfig, ModelInput
from tinker_rl.engine.attention import TREE_ATTENTION
from tinker_rl.engine.learner import Learner, LearnerConfig

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
FULL = {
    "llama": LlamaConfig(**SMALL),
    "one head of keys": LlamaConfig(**{**SMALL, "num_key_value_heads": 1}),
    "as many keys": LlamaConfig(**{**SMALL, "num_key_value_heads": 4}),
    "qwen2": Qwen2Config(**SMALL),
    "mixture": Qwen3MoeConfig(
        **SMALL, head_dim=8, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2
    ),
    "learned positions": GPT2Config(
        vocab_size=64, n_positions=128, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2
    ),
}
WINDOWS = {
    "mistral": MistralConfig(**SMALL, sliding_window=4),
    "every other layer": Qwen2Config(
        **SMALL,
        use_sliding_window=True,
        sliding_window=4,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
    ),
    "soft caps": Gemma2Config(**SMALL, head_dim=8, sliding_window=4, final_logit_softcapping=None),
}
RECURRENT = {
    "mamba": MambaConfig(
        vocab_size=64, hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.2
    ),
    "linear attention": Qwen3NextConfig(
        **SMALL,
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
    ),
}


def random_model(config):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    return model.eval().requires_grad_(False)


def learner_of(config, **options):
    learner = Learner(random_model(config), "small", 128, LearnerConfig(**options))
    adapter = learner.create("model:0", LoraConfig(rank=4, seed=0, train_mlp=False))
    with torch.no_grad():  # at its start, the first factor has no gradient
        for name, parameter in adapter.params.items():
            generator = torch.Generator().manual_seed(len(name))
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return learner


def distance(one, other):
    """Relative, over all parameters."""
    assert one.keys() == other.keys()
    gap = sum(float(((one[k] - other[k]).double() ** 2).sum()) for k in one)
    size = sum(float((one[k].double() ** 2).sum()) for k in one)
    return (gap / size) ** 0.5 if size else gap**0.5


def logprobs(output):
    return [out["logprobs"].to_numpy() for out in output.loss_fn_outputs]


# Few tokens, so that sequences often begin alike, branch, and repeat.
trees = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=6)


def datums(sequences, seed, loss):
    rng = np.random.default_rng(seed)
    keys = {"cross_entropy": ("weights",), "ppo": ("logprobs", "advantages")}[loss]
    values = {
        "weights": lambda n: rng.choice([0.0, 1.0, -0.5], n),
        "advantages": lambda n: rng.choice([0.0, 1.0, -1.0], n) * rng.random(n),
        "logprobs": lambda n: -4 - rng.random(n),
    }
    return [
        Datum(
            ModelInput.from_ints(sequence),
            {
                "target_tokens": rng.integers(0, 64, len(sequence)),
                **{key: values[key](len(sequence)) for key in keys},
            },
        )
        for sequence in sequences
    ]


LEARNERS = {}


def shared_learner(name, config):
    if name not in LEARNERS:
        LEARNERS[name] = learner_of(config)
    return LEARNERS[name]


@pytest.mark.parametrize("name", sorted(FULL | WINDOWS | RECURRENT))
@given(
    sequences=trees,
    seed=st.integers(0, 9),
    budget=st.sampled_from([9, 20, 1000]),
    loss=st.sampled_from(["cross_entropy", "ppo"]),
)
@settings(max_examples=10)
def test_a_request_gives_what_its_sequences_give_one_by_one(
    run, take_gradients, name, sequences, seed, budget, loss
):
    learner = shared_learner(name, (FULL | WINDOWS | RECURRENT)[name])
    learner.token_budget = budget
    data = datums(sequences, seed, loss)
    together = run(learner.forward_backward("model:0", data, loss))
    gradients = take_gradients(learner)
    alone = [run(learner.forward_backward("model:0", [datum], loss)) for datum in data]
    # The chunked recurrence of linear attention rounds a batch and a row differently by itself.
    tolerance = 1e-3 if name == "linear attention" else 1e-5
    assert distance(take_gradients(learner), gradients) <= tolerance
    for got, one in zip(logprobs(together), alone, strict=True):
        np.testing.assert_allclose(got, logprobs(one)[0], rtol=tolerance, atol=tolerance)
    expected = sum(one.metrics["loss:sum"] for one in alone)
    assert together.metrics["loss:sum"] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    forward = run(learner.forward_backward("model:0", data, loss, forward_only=True))
    np.testing.assert_allclose(
        np.concatenate(logprobs(forward)), np.concatenate(logprobs(together)), atol=tolerance
    )


@pytest.mark.parametrize("name", sorted(FULL | WINDOWS | RECURRENT))
def test_one_sequence_gives_what_transformers_gives_for_it(run, name):
    """Longer than the windows; against the model's own attention, without our layouts."""
    config = (FULL | WINDOWS | RECURRENT)[name]
    learner, plain = Learner(random_model(config), "small", 128), random_model(config)
    learner.create("model:0", LoraConfig(rank=4, seed=0, train_mlp=False))
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 64, 12).tolist()
    sequences = [prompt + rng.integers(0, 64, n).tolist() for n in (9, 5, 14)]
    output = run(learner.forward_backward("model:0", datums(sequences, 0, "ppo"), "ppo"))
    for datum, got in zip(datums(sequences, 0, "ppo"), logprobs(output), strict=True):
        target = datum.loss_fn_inputs["target_tokens"].to_torch()[:, None]
        ids = torch.tensor([datum.model_input.to_ints()])
        with torch.no_grad():
            logits = plain(input_ids=ids, use_cache=False).logits[0]
        expected = logits.log_softmax(-1).gather(1, target)[:, 0]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", sorted(FULL))
def test_full_attention_shares_prefixes_and_says_nothing(run, take_gradients, caplog, name):
    learner = shared_learner(name, FULL[name])
    learner.token_budget = 1000
    assert learner._passes.layout == "tree"
    data = datums([[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2]], 0, "ppo")
    output = run(learner.forward_backward("model:0", data, "ppo"))
    take_gradients(learner)
    assert output.metrics["tokens:sum"] == 11
    assert output.metrics["unique_tokens:sum"] == 6
    assert not caplog.records


@pytest.mark.parametrize("name", sorted(WINDOWS | RECURRENT))
def test_other_attention_is_packed_or_padded_and_says_so_once(run, caplog, name):
    with caplog.at_level(logging.WARNING):
        learner = learner_of((WINDOWS | RECURRENT)[name])
        data = datums([[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2]], 0, "ppo")
        for _ in range(2):
            output = run(learner.forward_backward("model:0", data, "ppo"))
    (record,) = [r for r in caplog.records if r.name.startswith("tinker_rl")]
    how = "packed into rows" if name in WINDOWS else "padded"
    assert how in record.getMessage()
    assert output.metrics["unique_tokens:sum"] == output.metrics["tokens:sum"] == 11


def test_half_precision_shares_prefixes_up_to_its_rounding(run, take_gradients):
    """With the arithmetic of a GPU: base and hidden states in bfloat16, adapters in float32."""
    model = random_model(FULL["llama"]).to(torch.bfloat16)
    learner = Learner(model, "small", 128)
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    assert learner._passes.layout == "tree"
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 64, 12).tolist()
    sequences = [prompt + rng.integers(0, 64, n).tolist() for n in (9, 5, 14)]
    data = datums(sequences, 0, "cross_entropy")
    together = run(learner.forward_backward("model:0", data, "cross_entropy"))
    gradients = take_gradients(learner)
    alone = [run(learner.forward_backward("model:0", [datum], "cross_entropy")) for datum in data]
    assert distance(gradients, take_gradients(learner)) < 0.05
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
    for got, one in zip(logprobs(together), alone, strict=True):
        np.testing.assert_allclose(got, logprobs(one)[0], atol=0.2)


def test_a_tree_that_does_not_reach_the_layers_is_found_out(monkeypatch):
    """Without a mask function transformers hands the layers no mask, and says nothing."""
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, TREE_ATTENTION)
    learner = Learner(random_model(FULL["llama"]), "small", 128)
    assert learner._passes.layout == "packed"
    assert learner._model.config._attn_implementation == "sdpa"


def test_without_a_tree_the_attention_is_that_of_sdpa():
    config = FULL["llama"]
    learner, plain = Learner(random_model(config), "small", 128), random_model(config)
    model = learner._model
    assert model.config._attn_implementation == TREE_ATTENTION
    ids = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[0, 0] + [1] * 7, [1] * 9])  # padded on the left
    for arguments in ({}, {"attention_mask": mask}):
        expected = plain(input_ids=ids, **arguments).logits
        torch.testing.assert_close(model(input_ids=ids, **arguments).logits, expected)


# --------------------------------------------------------------------------- gradient checkpointing


def saved_bytes(learner, data, run):
    """Memory that the forward pass keeps for the backward pass."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run(learner.forward_backward("model:0", data, "cross_entropy"))
    return sum(sizes.values()), output


@pytest.mark.parametrize("name", ["llama", "mixture", "learned positions", "mistral"])
def test_gradient_checkpointing_changes_no_gradient_and_keeps_less(run, take_gradients, name):
    config = (FULL | WINDOWS)[name]
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 64, 40).tolist()
    sequences = [prompt + rng.integers(0, 64, 20).tolist() for _ in range(4)]
    data = datums(sequences, 0, "cross_entropy")
    plain, checkpointed = learner_of(config), learner_of(config, gradient_checkpointing=True)
    much, expected = saved_bytes(plain, data, run)
    little, got = saved_bytes(checkpointed, data, run)
    np.testing.assert_allclose(logprobs(got), logprobs(expected), rtol=1e-6)
    assert distance(take_gradients(plain), take_gradients(checkpointed)) <= 1e-6
    assert little < 0.6 * much

    def custom(data, logprobs):
        return sum(part.square().sum() for part in logprobs), {}

    gradients = []
    for learner in (plain, checkpointed):
        learner.token_budget = 60  # the graphs of several micro-batches wait for the loss
        run(learner.forward_backward("model:0", data, "custom", custom=custom))
        gradients.append(take_gradients(learner))
    assert distance(*gradients) <= 1e-6
