"""From options to what vLLM is built with."""

from __future__ import annotations

from tinker_rl.engine.samplers.vllm.config import (
    DEFAULT_CPU_CACHE_BYTES,
    DEFAULT_LORA_RANK,
    DEFAULT_MEMORY_SHARE,
    VllmSamplerConfig,
)
from tinker_rl.engine.samplers.vllm.protocol import Engine

__all__ = ["engine_options"]


def engine_options(
    config: VllmSamplerConfig, *, model: str, context: int, dtype: str, is_cpu: bool, rank: int
) -> Engine:
    """What vLLM is to be built with, every choice made.

    Args:
        rank: Greatest rank of the adapters that there are, as vLLM counts them.
    """
    cache = None if config.kv_cache_gb is None else int(config.kv_cache_gb * 1e9)
    if cache is None and is_cpu:
        cache = DEFAULT_CPU_CACHE_BYTES
    most = config.max_lora_rank
    return Engine(
        model=model,
        dtype=dtype,
        max_model_len=context,
        max_loras=config.max_loras,
        max_lora_rank=max(DEFAULT_LORA_RANK, rank) if most is None else most,
        max_running=config.max_running,
        max_step_tokens=config.max_step_tokens,
        tensor_parallel_size=config.tensor_parallel_size,
        memory_share=None if is_cpu else config.memory_share or DEFAULT_MEMORY_SHARE,
        kv_cache_bytes=cache,
        block_size=config.block_size,
        eager=is_cpu if config.eager is None else config.eager,
    )
