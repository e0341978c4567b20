"""What stands against a setup."""

from __future__ import annotations

from tinker_rl.memory_plan.learner import learner_memory
from tinker_rl.memory_plan.sampler import DEFAULT_SHARE, context_tokens, sampler_memory
from tinker_rl.memory_plan.setup import Setup, gigabytes

__all__ = ["find_problems"]


def find_problems(setup: Setup) -> tuple[str, ...]:
    """Why a setup cannot run; empty if it fits."""
    return (*_impossible(setup), *_too_large(setup))


def _impossible(setup: Setup) -> list[str]:
    found: list[str] = []
    model, vllm = setup.model, setup.vllm
    if model.num_moe_layers and setup.lora.train_mlp:
        found.append("the learner refuses adapters on experts: train_mlp must be false")
    if vllm is not None and vllm.tensor_parallel_size > 1:
        size = vllm.tensor_parallel_size
        if model.num_heads % size:
            found.append(f"{model.num_heads} attention heads cannot be shared by {size} GPUs")
        if setup.on_gpu and size > setup.device.count:
            found.append(f"tensor_parallel_size={size} is more than {setup.device.count} GPU(s)")
    return found


def _too_large(setup: Setup) -> list[str]:
    found: list[str] = []
    learner, sampler, free = learner_memory(setup), sampler_memory(setup), setup.device.free_bytes
    rest = free
    name = "the sampler"
    vllm = setup.vllm
    if sampler is not None and vllm is not None:
        name, rest = "vLLM", free - sampler.total
        if sampler.cache < sampler.least_cache:
            found.append(_no_cache(setup))
        elif sampler.total > free:
            found.append(f"vLLM takes {gigabytes(sampler.total)}, and {gigabytes(free)} are free")
    elif sampler is not None:
        rest = free - sampler.total
    if learner.total > rest:
        left = f"what {name} leaves of" if sampler is not None else "what is free, of"
        found.append(
            f"the learner takes {gigabytes(learner.total)}, more than {left} "
            f"{gigabytes(free)}: {gigabytes(max(0, rest))}"
        )
    return found


def _no_cache(setup: Setup) -> str:
    sampler, vllm = sampler_memory(setup), setup.vllm
    assert sampler is not None
    assert vllm is not None
    if vllm.kv_cache_gb is not None or not setup.on_gpu:
        held = f"its cache of {gigabytes(sampler.cache)} (kv_cache_gb)"
    else:
        share = vllm.memory_share or DEFAULT_SHARE
        held = (
            f"memory_share={share:g} of {gigabytes(setup.device.total_bytes)} leaves "
            f"{gigabytes(sampler.cache)} beside the {gigabytes(sampler.fixed)} that it needs anyway"
        )
    return (
        f"vLLM has no room for keys and values: {held}; one sequence of "
        f"{context_tokens(setup)} tokens takes {gigabytes(sampler.least_cache)}"
    )
