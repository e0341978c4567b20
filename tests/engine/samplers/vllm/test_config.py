import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.engine.samplers.vllm.build import engine_options
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig, fitting_rank
from tinker_rl.errors import ConfigError


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_share": 1.5},
        {"memory_share": 0.0},
        {"kv_cache_gb": -1.0},
        {"max_model_len": 1},
        {"max_running": 0},
        {"tensor_parallel_size": 0},
        {"max_loras": 0},
        {"max_lora_rank": 33},
        {"start_seconds": 0.0},
        {"stall_seconds": -1.0},
        {"max_restarts": -1},
    ],
)
def test_values_out_of_range_are_refused_by_name(fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=rf"VllmSamplerConfig\.{name}: expected .*; got"):
        VllmSamplerConfig(**fields)


@given(st.integers(1, 512))
def test_a_rank_is_rounded_up_to_one_that_vllm_has(rank):
    fitting = fitting_rank(rank)
    assert fitting >= rank
    assert fitting_rank(fitting) == fitting


def test_a_rank_beyond_vllms_is_refused():
    with pytest.raises(ConfigError, match="rank 512 or less; got 513"):
        fitting_rank(513)


def options(config=None, *, is_cpu=True, rank=0):
    return engine_options(
        config or VllmSamplerConfig(),
        model="m",
        context=64,
        dtype="float32",
        is_cpu=is_cpu,
        rank=rank,
    )


def test_choices_that_are_left_open_depend_on_the_device():
    cpu, gpu = options(), options(is_cpu=False)
    assert (cpu.kv_cache_bytes, cpu.memory_share, cpu.eager) == (10**9, None, True)
    assert (gpu.kv_cache_bytes, gpu.memory_share, gpu.eager) == (None, 0.45, False)


def test_the_rank_is_the_usual_one_or_what_there_is_or_what_was_asked_for():
    assert options().max_lora_rank == 32
    assert options(rank=64).max_lora_rank == 64
    assert options(VllmSamplerConfig(max_lora_rank=8)).max_lora_rank == 8
    assert options(VllmSamplerConfig(max_lora_rank=0)).max_lora_rank == 0
