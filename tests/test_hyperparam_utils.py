import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tinker_rl import LoraConfig
from tinker_rl.engine.base_model import load_base_model
from tinker_rl.engine.lora import LinearLayers, adapter_parameters, add_adapter, peft_config
from tinker_rl.errors import ConfigError, UnknownNameError, UnsupportedError
from tinker_rl.hyperparam_utils import (
    REFERENCE_BATCH_SIZE,
    compute_schedule_lr_multiplier,
    get_full_finetune_lr_multiplier,
    get_full_finetune_param_count,
    get_lora_lr_multiplier,
    get_lora_lr_over_full_finetune_lr,
    get_lora_param_count,
    get_lr,
    lr_for_width,
    scale_lr_with_batch_size,
)
from tinker_rl.lineup import LINEUP

PAGE = Path(__file__).parents[1] / "docs" / "hyperparameters.md"
MIXTURE = "Qwen/Qwen3-30B-A3B"

SMALL = {
    "llama": LlamaConfig(
        vocab_size=70,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    ),
    "qwen2": Qwen2Config(
        vocab_size=70,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    ),
    "qwen3": Qwen3Config(
        vocab_size=70,
        hidden_size=40,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    ),
    "qwen3_moe": Qwen3MoeConfig(
        vocab_size=70,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
    ),
    "gpt2": GPT2Config(vocab_size=70, n_positions=32, n_embd=32, n_layer=2, n_head=4),
}
"""One of each layout; the last is counted by looking through the model itself."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with each configuration; no weights."""
    folders = {}
    for name, config in SMALL.items():
        folders[name] = str(tmp_path_factory.mktemp(name))
        config.save_pretrained(folders[name])
    return folders


# --------------------------------------------------------------------------------- learning rate


@given(
    widths=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    exponent=st.floats(0, 1),
)
def test_the_rate_falls_with_width(widths, exponent):
    narrow, wide = (lr_for_width(width, exponent) for width in sorted(widths))
    assert narrow >= wide
    assert lr_for_width(2000, exponent) == 5e-4
    assert lr_for_width(widths[0], exponent, is_lora=False) * 10 == pytest.approx(
        lr_for_width(widths[0], exponent)
    )
    assert lr_for_width(widths[0], 0.0) == 5e-4


@pytest.mark.parametrize(
    ("name", "lr"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507", 5e-5 * 10 * (2000 / 2560) ** 0.0775),
        ("Qwen/Qwen3-8B", 5e-5 * 10 * (2000 / 4096) ** 0.0775),
        ("Qwen/Qwen3-30B-A3B", 5e-5 * 10 * (2000 / 2048) ** 0.0775),
        ("meta-llama/Llama-3.2-1B", 5e-5 * 10 * (2000 / 2048) ** 0.781),
        ("meta-llama/Llama-3.1-8B", 5e-5 * 10 * (2000 / 4096) ** 0.781),
        ("meta-llama/Llama-3.3-70B-Instruct", 5e-5 * 10 * (2000 / 8192) ** 0.781),
        ("tiny", 5e-5 * 10 * (2000 / 128) ** 0.0775),
    ],
)
def test_rates_of_the_lineup(name, lr):
    assert get_lr(name) == lr
    assert get_lr(name, is_lora=False) == pytest.approx(
        lr / get_lora_lr_over_full_finetune_lr(name), rel=1e-12
    )
    assert get_lr(name, batch_size=4 * REFERENCE_BATCH_SIZE) == 2 * lr
    assert get_lr(name, exponent=0) == 5e-4


def test_a_folder_has_the_rate_of_its_family(folders):
    assert get_lr(folders["llama"]) == lr_for_width(48, 0.781)
    assert get_lr(folders["qwen2"]) == lr_for_width(48, 0.0775)
    assert get_lr(folders["qwen3_moe"], False) == lr_for_width(32, 0.0775, False)


def test_a_family_without_exponent_is_refused_unless_one_is_given(folders):
    with pytest.raises(ConfigError, match=r"llama or qwen; got one of type 'gpt2'. Pass exponent="):
        get_lr(folders["gpt2"])
    assert get_lr(folders["gpt2"], exponent=0.5) == lr_for_width(32, 0.5)


def test_a_model_that_cannot_be_had_is_refused():
    for function in (get_lr, get_lora_param_count, get_full_finetune_param_count):
        with pytest.raises(UnknownNameError, match="HF_HUB_OFFLINE"):
            function("Qwen/Qwen3-14B")
        with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
            function("tinny")


sizes = st.floats(0.5, 1e6)


@given(lr=st.floats(1e-8, 1.0), first=sizes, second=sizes, third=sizes)
def test_rates_go_with_the_square_root_of_the_batch_size(lr, first, second, third):
    assert scale_lr_with_batch_size(lr, first, first) == lr
    there = scale_lr_with_batch_size(lr, second, first)
    assert there / lr == pytest.approx(math.sqrt(second / first))
    onward = scale_lr_with_batch_size(there, third, second)
    assert onward == pytest.approx(scale_lr_with_batch_size(lr, third, first))


@pytest.mark.parametrize("size", [0, -1, math.inf, math.nan])
def test_batch_sizes_that_are_none(size):
    with pytest.raises(ConfigError, match="expected batch_size above 0; got"):
        scale_lr_with_batch_size(1e-4, size)
    with pytest.raises(ConfigError, match="expected reference_batch_size above 0; got"):
        scale_lr_with_batch_size(1e-4, 1, size)
    with pytest.raises(ConfigError, match="expected batch_size above 0; got"):
        get_lr("tiny", batch_size=size)


def test_multipliers_compare_models_by_their_parameters():
    small, large = "Qwen/Qwen3-0.6B", "Qwen/Qwen3-32B"
    ratio = get_full_finetune_lr_multiplier(small) / get_full_finetune_lr_multiplier(large)
    assert ratio == pytest.approx(math.sqrt(32_762_123_264 / 596_049_920))
    assert get_lora_lr_multiplier(small) == 10 * get_full_finetune_lr_multiplier(small)
    assert get_lora_lr_over_full_finetune_lr(small, lora_alpha=64) == 10


# ------------------------------------------------------------------------------------- schedules


@given(
    name=st.sampled_from(["linear", "cosine", "constant"]),
    total_steps=st.integers(1, 200),
    data=st.data(),
)
def test_a_schedule_rises_through_its_warm_up_and_never_after(name, total_steps, data):
    warmup = data.draw(st.integers(0, total_steps - 1))
    factors = [
        compute_schedule_lr_multiplier(name, step, total_steps, warmup)
        for step in range(total_steps + 1)
    ]
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(factor > 0 for factor in factors[:-1])  # no step of a run is wasted
    assert factors[:warmup] == sorted(set(factors[:warmup]))
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert factors[warmup] == factors[max(0, warmup - 1)] == 1
    assert factors[-1] == (1 if name == "constant" else 0)


@given(total_steps=st.integers(1, 10_000), data=st.data())
def test_schedules_are_those_of_the_cookbook(total_steps, data):
    step = data.draw(st.integers(0, total_steps))
    for name, factor in {
        "linear": 1 - step / total_steps,
        "cosine": 0.5 * (1 + math.cos(math.pi * step / total_steps)),
        "constant": 1,
    }.items():
        assert compute_schedule_lr_multiplier(name, step, total_steps) == factor


def test_schedules_that_are_none():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'cosine'\? Known: constant, cosine"):
        compute_schedule_lr_multiplier("cosin", 0, 10)
    for step, total_steps, warmup_steps in [
        (0, 0, 0),
        (-1, 5, 0),
        (6, 5, 0),
        (0, 5, 5),
        (0, 5, -1),
    ]:
        with pytest.raises(ConfigError, match=r"expected [\s\S]*; got"):
            compute_schedule_lr_multiplier("constant", step, total_steps, warmup_steps)


# ------------------------------------------------------------------------------ parameter counts

flags = st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any)


@pytest.mark.parametrize("name", ["tiny", *SMALL])
@given(rank=st.integers(1, 9), chosen=flags)
@settings(max_examples=8, deadline=None)
def test_an_adapter_has_as_many_parameters_as_counted(name, folders, rank, chosen):
    mlp, attn, unembed = chosen
    if name == "tiny":
        model = load_base_model("tiny", torch.device("cpu"), torch.float32)
    else:
        with torch.random.fork_rng([]):
            model = AutoModelForCausalLM.from_config(SMALL[name])
    model_name = folders.get(name, name)
    assert get_full_finetune_param_count(model_name) == sum(p.numel() for p in model.parameters())
    if name == "qwen3_moe":  # the engine puts no adapters on experts
        mlp, attn = False, attn or not unembed
    config = LoraConfig(rank=rank, train_mlp=mlp, train_attn=attn, train_unembed=unembed)
    wrapped = add_adapter(model, "default", peft_config(LinearLayers.of(model), config), 0)
    made = sum(p.numel() for p in adapter_parameters(wrapped, "default").values())
    assert made == get_lora_param_count(model_name, rank, mlp, attn, unembed)


@pytest.mark.parametrize(
    ("name", "mlp", "attn", "unembed"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507", 1_327_104, 737_280, 154_496),
        ("Qwen/Qwen3-8B", 1_769_472, 958_464, 156_032),
        ("Qwen/Qwen3-32B", 5_898_240, 2_490_368, 157_056),
        ("Qwen/Qwen3-30B-A3B", 14_450_688, 835_584, 153_984),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", 56_598_528, 3_176_448, 156_032),
        ("meta-llama/Llama-3.2-1B", 491_520, 212_992, 130_304),
        ("meta-llama/Llama-3.2-3B", 946_176, 573_440, 131_328),
        ("meta-llama/Llama-3.1-8B-Instruct", 1_769_472, 851_968, 132_352),
        ("meta-llama/Llama-3.1-70B", 8_847_360, 4_096_000, 136_448),
    ],
)
def test_adapters_of_the_lineup_have_the_size_that_tinker_gives_them(name, mlp, attn, unembed):
    assert get_lora_param_count(name, 1, train_attn=False, train_unembed=False) == mlp
    assert get_lora_param_count(name, 1, train_mlp=False, train_unembed=False) == attn
    assert get_lora_param_count(name, 1, train_mlp=False, train_attn=False) == unembed
    assert get_lora_param_count(name) == 32 * (mlp + attn + unembed)


def test_experts_share_their_outer_factor_unless_told_otherwise():
    without = get_lora_param_count(MIXTURE, 1, include_experts=False)
    assert without == get_lora_param_count(MIXTURE, 1, train_mlp=False)
    shared = get_lora_param_count(MIXTURE, 1) - without
    alone = get_lora_param_count(MIXTURE, 1, shared_expert_outer_loras=False) - without
    assert shared == 48 * 3 * (128 * 768 + 2048)
    assert alone == 48 * 3 * 128 * (768 + 2048)


def test_experts_of_another_layout_are_refused(tmp_path):
    from transformers import MixtralConfig

    config = MixtralConfig(
        vocab_size=70,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    config.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="Pass include_experts=False"):
        get_lora_param_count(str(tmp_path))
    attention = (32 + 32) + 2 * (32 + 16) + (32 + 32)
    assert get_lora_param_count(str(tmp_path), 1, include_experts=False) == attention + 32 + 70


def test_a_model_that_is_no_causal_one_is_refused(tmp_path):
    from transformers import T5Config

    T5Config().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="expected a causal language model"):
        get_lora_param_count(str(tmp_path))


def test_adapters_that_are_none():
    for rank in (0, -1, 1.5, "8"):
        with pytest.raises(ConfigError, match="lora_rank: expected an integer of 1 or more"):
            get_lora_param_count("tiny", rank)
    with pytest.raises(ConfigError, match=r"got none\. Set one of them"):
        get_lora_param_count("tiny", 1, False, False, False)


# ------------------------------------------------------------------------------------------ page


def test_the_table_of_the_page_is_what_the_functions_give():
    rows = [
        f"| {entry.name} | {get_lr(entry.name):.2e} | {get_lr(entry.name, is_lora=False):.2e} | "
        f"{get_lora_param_count(entry.name):,} | {get_full_finetune_param_count(entry.name):,} |"
        for entry in LINEUP
    ]
    assert "\n".join(rows) in PAGE.read_text()
