import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tinker_rl.architectures import Architecture
from tinker_rl.engine.base_model import load_base_model
from tinker_rl.engine.learner import Learner, LearnerConfig
from tinker_rl.engine.scoring import logits_chunk
from tinker_rl.memory_plan import Device, adapter_parameters, learner_memory
from tinker_rl.memory_plan.learner import DEFAULT_TOKENS, LOGITS
from tinker_rl.types import AdamParams, Datum, LoraConfig, ModelInput

ROOT = Path(__file__).parents[2]
CPU = Device(kind="cpu", total_bytes=10**10, free_bytes=10**10)


def tensor_bytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def small_llama(dtype):
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        tie_word_embeddings=False,
    )
    return AutoModelForCausalLM.from_config(config, dtype=dtype).requires_grad_(False).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "lora",
    [
        LoraConfig(rank=32, seed=0),
        LoraConfig(rank=4, seed=0, train_mlp=False),
        LoraConfig(rank=5, seed=0, train_attn=False, train_unembed=False),
    ],
)
@pytest.mark.parametrize("name", ["tiny", "llama"])
def test_weights_adapter_and_optimiser_are_those_of_real_ones(setup_of, name, lora, dtype):
    tiny = name == "tiny"
    model = load_base_model("tiny", torch.device("cpu"), dtype) if tiny else small_llama(dtype)
    setup = setup_of(
        "tiny",
        model=Architecture.from_config(model.config),
        device=CPU,
        dtype=str(dtype).removeprefix("torch."),
        lora=lora,
    )
    plan = learner_memory(setup)
    assert plan.weights == tensor_bytes(model.parameters())
    learner = Learner(model, name, 1024)
    adapter = learner.create("one", lora)
    assert plan.adapter == tensor_bytes(adapter.params.values())
    assert adapter_parameters(setup.model, lora) == sum(p.numel() for p in adapter.params.values())
    datum = Datum(ModelInput.from_ints(range(8)), {"target_tokens": range(1, 9)})
    for _ in learner.forward_backward("one", [datum], "cross_entropy"):
        pass
    assert plan.gradients == 2 * tensor_bytes(adapter.gradients.values())
    learner.optim_step("one", AdamParams(learning_rate=1e-3))
    states = [t for state in adapter.optimizer.state.values() for t in state.values()]
    assert plan.optimizer == tensor_bytes(states)


def test_defaults_are_those_of_the_learner():
    for kind in ("cpu", "cuda"):
        device = torch.device(kind)
        for vocab in (1024, 151936):
            assert max(64, LOGITS[kind] // vocab) == logits_chunk(vocab, device)
    assert Learner(small_llama(torch.float32), "x", 64).token_budget == DEFAULT_TOKENS["cpu"]


def test_the_parts_sum_up_and_checkpointing_and_small_batches_save(setup_of):
    plan = learner_memory(setup_of())
    assert plan.total == sum(getattr(plan, name) for name in plan.__struct_fields__)
    smaller = learner_memory(setup_of(learner=LearnerConfig(token_budget=4096)))
    assert smaller.activations * 4 == plan.activations
    checkpointed = learner_memory(setup_of(learner=LearnerConfig(gradient_checkpointing=True)))
    assert checkpointed.activations < plan.activations / 5
    assert checkpointed.weights == smaller.weights == plan.weights


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("options", "returned"),
    [(["float32"], False), (["bfloat16", "--checkpointing"], True)],
    ids=["float32", "bfloat16 with checkpointing, freed memory returned"],
)
def test_activations_are_estimated_within_a_factor_of_two_and_not_below(options, returned):
    """Of 27M random parameters; see the table at the top of the module."""
    environment = {key: value for key, value in os.environ.items() if "MALLOC" not in key}
    if returned:
        environment["MALLOC_MMAP_THRESHOLD_"] = str(1024 * 1024)
    done = subprocess.run(
        [sys.executable, "benchmarks/memory_plan.py", "llama", *options, "--tokens", "1024"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    ratio = figures["estimate_mb"] / figures["measured_mb"]
    assert 0.95 < ratio < 2, figures
