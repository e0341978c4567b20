import pytest
import torch

from tinker_rl.engine.base_model import load_base_model
from tinker_rl.engine.samplers.embedded import EmbeddedSamplerConfig
from tinker_rl.engine.samplers.embedded import replica as replica_module
from tinker_rl.engine.samplers.vllm import config as vllm_config
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.memory_plan import Device, sampler_memory
from tinker_rl.memory_plan.sampler import CPU_CACHE_BYTES, DEFAULT_SHARE, MERGE_LIMIT
from tinker_rl.types import LoraConfig

CPU = Device(kind="cpu", total_bytes=10**10, free_bytes=10**10)


def test_without_a_sampler_there_is_none(setup_of):
    assert sampler_memory(setup_of(sampler=None)) is None


def test_keys_and_values_of_a_token_are_those_of_the_model(setup_of):
    model = load_base_model("tiny", torch.device("cpu"), torch.float32)
    with torch.no_grad():
        cache = model(input_ids=torch.arange(5)[None]).past_key_values
    size = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    setup = setup_of("tiny", device=CPU, dtype="float32", sampler=EmbeddedSamplerConfig())
    assert sampler_memory(setup).bytes_per_token * 5 == size
    # Llama-3.1-8B: 2 * 32 layers * 8 heads * 128 * 2 bytes.
    assert sampler_memory(setup_of("meta-llama/Llama-3.1-8B")).bytes_per_token == 131072


def test_the_embedded_sampler_shares_the_weights_and_merges_small_adapters(setup_of):
    assert MERGE_LIMIT == replica_module._MERGE_LIMIT
    options = {"device": CPU, "dtype": "float32", "sampler": EmbeddedSamplerConfig()}
    tiny = sampler_memory(setup_of("tiny", **options))
    assert tiny.weights == 0
    targets = 4 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 320) + 1024 * 128
    assert tiny.adapters == 2 * 4 * targets
    large = sampler_memory(setup_of("Qwen/Qwen3-8B", **options))
    assert large.adapters == 2 * 4 * 92_286_976  # low-rank: merging would cost a copy of it all
    assert tiny.cache <= 9 / 8 * 4e9


def test_vllm_holds_a_copy_and_slots_of_a_padded_rank(setup_of):
    plan = sampler_memory(setup_of(lora=LoraConfig(rank=9)))
    assert plan.weights == 2 * 8_190_735_360
    padded = sampler_memory(setup_of(lora=LoraConfig(rank=16)))
    assert plan.adapters == padded.adapters
    one = sampler_memory(setup_of(sampler=VllmSamplerConfig(max_loras=1), lora=LoraConfig(rank=16)))
    assert padded.adapters == 4 * one.adapters
    # The slots of one version are at least as large as the adapter of that rank itself.
    assert one.adapters >= 2 * 16 * 92_286_976 // 32


def test_vllms_share_of_the_gpu_is_filled_by_its_cache(setup_of):
    config = VllmSamplerConfig(memory_share=0.6, max_model_len=4096)
    plan = sampler_memory(setup_of(sampler=config))
    assert plan.total == pytest.approx(0.6 * 80e9, abs=2)
    assert plan.cache_tokens == plan.cache // plan.bytes_per_token
    assert plan.least == plan.fixed + 4096 * plan.bytes_per_token


def test_gpus_that_share_a_model_hold_a_part_each(setup_of):
    one, two = (
        sampler_memory(setup_of(sampler=VllmSamplerConfig(tensor_parallel_size=size)))
        for size in (1, 2)
    )
    assert two.weights * 2 == one.weights
    assert two.bytes_per_token * 2 == one.bytes_per_token
    assert two.adapters < one.adapters


def test_what_is_left_open_is_what_the_engine_takes():
    """The plan is made without the engine, so it has numbers of its own."""
    assert vllm_config.DEFAULT_MEMORY_SHARE == DEFAULT_SHARE
    assert vllm_config.DEFAULT_CPU_CACHE_BYTES == CPU_CACHE_BYTES
