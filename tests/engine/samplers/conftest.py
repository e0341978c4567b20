"""Small models that every sampler runs, and engines with either sampler."""

from importlib.util import find_spec

import pytest
from transformers import LlamaConfig, Qwen3Config

from tinker_rl import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,  # vLLM's attention has no smaller ones
    "max_position_embeddings": 512,
}

needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make vllm)"),
]


@pytest.fixture(scope="session")
def models(save_model) -> dict[str, str]:
    """Folders of a small Qwen3 (tied unembedding) and a small Llama (its own)."""
    return {
        "qwen3": save_model(Qwen3Config(**SHAPE, tie_word_embeddings=True), "qwen3"),
        "llama": save_model(LlamaConfig(**SHAPE), "small-llama"),
    }


@pytest.fixture(scope="session", params=["embedded", pytest.param("vllm", marks=needs_vllm)])
def sampler(request) -> str:
    """Each sampler in turn."""
    return request.param


@pytest.fixture(scope="session")
def engine(sampler):
    """An engine with that sampler."""
    config = "embedded"
    if sampler == "vllm":  # few tokens a step, so that prompts are read in several
        config = VllmSamplerConfig(
            kv_cache_gb=0.1, block_size=32, max_running=64, max_step_tokens=128
        )
    with ServiceClient(engine_options=EngineOptions(sampler=config)) as service:
        yield service


@pytest.fixture(params=["qwen3", "llama"], scope="session")
def base_model(request, models) -> str:
    """Each model in turn."""
    return models[request.param]
