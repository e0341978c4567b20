import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tinker_rl.architectures import ARCHITECTURES, Architecture, get_architecture
from tinker_rl.errors import UnknownNameError, UnsupportedError
from tinker_rl.lineup import LINEUP, model_path

FAMILIES = [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig]


@st.composite
def configs(draw):
    """A small configuration of a family whose models can be counted."""
    kv_heads = draw(st.integers(1, 3))
    family = draw(st.sampled_from(FAMILIES))
    options = {
        "vocab_size": draw(st.integers(3, 40)),
        "hidden_size": 12,
        "intermediate_size": draw(st.integers(1, 30)),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": kv_heads * draw(st.integers(1, 2)),
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": draw(st.booleans()),
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if family in (LlamaConfig, MistralConfig, Qwen3Config):
        options["head_dim"] = draw(st.sampled_from([2, 4, 6]))
    if family in (LlamaConfig, Qwen3Config, Qwen3MoeConfig):
        options["attention_bias"] = draw(st.booleans())
    if family is LlamaConfig:
        options["mlp_bias"] = draw(st.booleans())
    if family is Qwen3MoeConfig:
        options["num_experts"] = draw(st.integers(1, 4))
        options["num_experts_per_tok"] = draw(st.integers(1, options["num_experts"]))
        options["moe_intermediate_size"] = draw(st.integers(1, 20))
        options["decoder_sparse_step"] = draw(st.integers(1, 2))
        options["mlp_only_layers"] = draw(st.sampled_from([[], [0], [1]]))
    return family(**options)


@given(config=configs())
@settings(max_examples=80, deadline=None)
def test_a_model_is_counted_as_transformers_builds_it(config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    architecture = Architecture.from_config(config)
    assert architecture.total_parameters == sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings()
    assert architecture.unembed_weights == head.weight.numel()
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not head
    )
    for name, parameter in model.named_parameters():  # what is linear without being a layer
        if "experts" in name:
            linear += parameter.numel() * config.num_experts_per_tok // config.num_experts
        elif name.endswith("mlp.gate.weight"):
            linear += parameter.numel()
    assert architecture.linear_weights == linear


def test_the_table_has_the_lineup():
    assert list(ARCHITECTURES) == [entry.name for entry in LINEUP]
    for entry in LINEUP:
        architecture = ARCHITECTURES[entry.name]
        assert (architecture.num_experts > 0) == (entry.architecture == "moe")
        digits = 4 if entry.name == "tiny" else 1
        assert round(architecture.total_parameters / 1e9, digits) == entry.billion_parameters
        assert get_architecture(entry.name) is architecture


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("tiny", 820_608),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-1.7B", 1_720_574_976),
        ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("Qwen/Qwen3-32B", 32_762_123_264),
        ("Qwen/Qwen3-30B-A3B", 30_532_122_624),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", 235_093_634_560),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("meta-llama/Llama-3.2-3B", 3_212_749_824),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-3.1-70B", 70_553_706_496),
    ],
)
def test_parameters_that_are_published(name, parameters):
    assert ARCHITECTURES[name].total_parameters == parameters


@pytest.mark.parametrize(
    ("name", "billions"), [("Qwen/Qwen3-30B-A3B", 3), ("Qwen/Qwen3-235B-A22B-Instruct-2507", 22)]
)
def test_a_mixture_is_named_after_what_acts_on_a_token(name, billions):
    architecture = ARCHITECTURES[name]
    active = architecture.linear_weights + architecture.unembed_weights
    assert round(active / 1e9) == billions


def test_tiny_is_what_ships():
    config = AutoConfig.from_pretrained(model_path("tiny"))
    assert Architecture.from_config(config) == ARCHITECTURES["tiny"]


def test_a_folder_is_read(tmp_path):
    config = LlamaConfig(hidden_size=48, num_attention_heads=4, vocab_size=99)
    config.save_pretrained(tmp_path)
    architecture = get_architecture(str(tmp_path))
    assert architecture == Architecture.from_config(config)
    assert (architecture.head_dim, architecture.vocab_size) == (12, 99)


def test_what_cannot_be_counted_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match=r"got 'gpt2'.* Known: llama, mistral"):
        Architecture.from_config(GPT2Config())
    with pytest.raises(UnknownNameError, match="HF_HUB_OFFLINE"):
        get_architecture("someone/model")
    (tmp_path / "config.json").write_text("not json")
    with pytest.raises(UnknownNameError, match="expected a model that can be had here"):
        get_architecture(str(tmp_path))
