import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from tinker_rl import LoraConfig
from tinker_rl.engine.learner import Learner
from tinker_rl.engine.lora import LinearLayers, lora_scale, peft_config, target_modules
from tinker_rl.errors import ConfigError, UnsupportedError

parts = st.sampled_from(["attn", "mlp", "proj", "c_proj", "up", "down", "q"])
flags = st.tuples(st.booleans(), st.booleans(), st.booleans())


def selected(targets, path):
    """peft's rule: a target is the whole path, or its end after a dot."""
    return any(path == target or path.endswith(f".{target}") for target in targets)


@given(
    attention=st.sets(parts, min_size=1, max_size=4),
    mlp=st.sets(parts, min_size=1, max_size=4),
    layers=st.integers(1, 3),
    chosen=flags,
)
@settings(max_examples=60)
def test_targets_select_what_the_flags_ask_for_and_nothing_else(attention, mlp, layers, chosen):
    blocks = range(layers)
    paths = LinearLayers(
        attention=tuple(f"model.layers.{i}.self_attn.{name}" for i in blocks for name in attention),
        mlp=tuple(f"model.layers.{i}.mlp.{name}" for i in blocks for name in mlp),
        unembed="lm_head",
        fused_experts=None,
    )
    attn, dense, unembed = chosen
    config = LoraConfig(train_attn=attn, train_mlp=dense, train_unembed=unembed)
    if not any(chosen):
        with pytest.raises(ConfigError):
            target_modules(paths, config)
        return
    targets = target_modules(paths, config)
    assert all(selected(targets, path) == attn for path in paths.attention)
    assert all(selected(targets, path) == dense for path in paths.mlp)
    assert selected(targets, "lm_head") == unembed
    assert not selected(targets, "model.embed_tokens")


@pytest.fixture(scope="module")
def mixture():
    config = Qwen3MoeConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Qwen3MoeForCausalLM(config).eval().requires_grad_(False)


def test_fused_experts_are_refused_and_the_rest_of_a_mixture_trains(mixture, run, make_data):
    assert "experts" in LinearLayers.of(mixture).fused_experts
    learner = Learner(mixture, "mixture", 64)
    with pytest.raises(UnsupportedError, match="Pass train_mlp=False"):
        learner.create("model:0", LoraConfig(rank=2))
    adapter = learner.create("model:0", LoraConfig(rank=2, train_mlp=False))
    assert all("self_attn" in name or "lm_head" in name for name in adapter.params)
    output = run(learner.forward_backward("model:0", make_data([9], vocab=128), "cross_entropy"))
    assert output.metrics["loss:sum"] != 0


def test_the_scale_of_an_adapter_is_32_over_its_rank(mixture):
    layers = LinearLayers.of(mixture)
    for rank in (1, 8, 32, 64):
        config = peft_config(layers, LoraConfig(rank=rank, train_mlp=False))
        assert config.lora_alpha / config.r == 32 / rank
        assert not config.lora_dropout


@given(alpha=st.sampled_from([1, 16, 32, 48.5]), rank=st.sampled_from([1, 3, 32]))
def test_the_scale_of_an_adapter_follows_an_alpha_of_ones_own(mixture, alpha, rank):
    config = LoraConfig(rank=rank, train_mlp=False, lora_alpha=alpha)
    settings = peft_config(LinearLayers.of(mixture), config)
    assert settings.lora_alpha / settings.r == pytest.approx(lora_scale(config)) == alpha / rank


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf")])
def test_an_alpha_that_is_no_positive_number_is_refused(mixture, alpha):
    config = LoraConfig(rank=2, train_mlp=False, lora_alpha=alpha)
    with pytest.raises(ConfigError, match=r"LoraConfig\.lora_alpha: expected a finite number"):
        peft_config(LinearLayers.of(mixture), config)
