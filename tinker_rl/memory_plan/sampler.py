"""Memory of the sampler: its weights, versions of the adapter, keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tinker_rl.architectures import Architecture
from tinker_rl.memory_plan.learner import adapter_parameters
from tinker_rl.memory_plan.setup import GB, Setup

if TYPE_CHECKING:
    from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSamplerConfig
    from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig

__all__ = ["DEFAULT_SHARE", "SamplerMemory", "context_tokens", "sampler_memory"]

DEFAULT_SHARE = 0.45
"""`memory_share` where `VllmSamplerConfig` leaves it open."""
MERGE_LIMIT = 128 * 1024 * 1024
"""Most target weights of which the embedded sampler merges a copy, as in its `replica`."""

CPU_CACHE_BYTES = GB
"""Keys and values of vLLM on a CPU where its configuration leaves that open."""
_VERSIONS = 2
"""Of the embedded sampler: one that is sampled from, and the next."""
_READ_TOKENS = {"cpu": 512, "cuda": 2048}
"""Prompt tokens that the embedded sampler reads at once."""
_STEP_TOKENS = {"cpu": 2048, "cuda": 8192}
"""Most tokens of a step of vLLM where its configuration leaves that open: the greatest default of
its servers."""
_LOGIT_COPIES = 4
"""Logits, what is left of them by temperature, top-k and top-p, probabilities, and logprobs."""
_RUNTIME_BYTES = {"cpu": 2_000_000_000, "cuda": 1_000_000_000}
"""vLLM's processes. On a GPU its context, libraries and workspaces: a round figure."""
_GRAPH_BYTES = 1_000_000_000
"""CUDA graphs of vLLM, where it is not eager: a round figure."""


class SamplerMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the sampler; of each GPU, if several share the model."""

    weights: int
    """A second copy, of vLLM alone."""
    adapters: int
    """vLLM: the slots, of the padded rank, on every layer that may have an adapter. Embedded: the
    versions in use."""
    activations: int
    """Of one step, its logits among them."""
    runtime: int
    cache: int
    """Keys and values."""
    least_cache: int
    """Least that it starts with: one sequence of the full context in vLLM."""
    bytes_per_token: int
    """Keys and values of one token."""

    @property
    def fixed(self) -> int:
        """All but the cache."""
        return self.weights + self.adapters + self.activations + self.runtime

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return self.fixed + self.cache

    @property
    def least(self) -> int:
        """The same with the least cache that it starts with."""
        return self.fixed + self.least_cache

    @property
    def cache_tokens(self) -> int:
        """Tokens whose keys and values fit the cache."""
        return self.cache // self.bytes_per_token


def sampler_memory(setup: Setup) -> SamplerMemory | None:
    """What the sampler takes; None if there is none."""
    vllm, embedded = setup.vllm, setup.embedded
    if vllm is not None:
        return _vllm(setup, vllm)
    return None if embedded is None else _embedded(setup, embedded)


def context_tokens(setup: Setup) -> int:
    """Longest sequence that the sampler has to hold."""
    vllm = setup.vllm
    own = None if vllm is None else vllm.max_model_len
    return own or setup.context


def _bytes_per_token(setup: Setup, tensor_parallel_size: int = 1) -> int:
    model = setup.model
    heads = -(-model.num_kv_heads // tensor_parallel_size)
    return 2 * model.num_layers * heads * model.head_dim * setup.item_bytes


def _embedded(setup: Setup, config: EmbeddedSamplerConfig) -> SamplerMemory:
    model, per_token = setup.model, _bytes_per_token(setup)
    bound = int(config.max_cache_gb * GB)
    rows = min(bound, config.max_rows * setup.context * per_token)
    kept_prompts = max(min(bound - rows, bound // 2), bound // 8)
    targets = _target_weights(setup)
    merges = setup.dtype == "float32" and targets <= MERGE_LIMIT
    read = _READ_TOKENS[setup.device.kind] * _step_bytes(model, setup.item_bytes)
    return SamplerMemory(
        weights=0,
        adapters=_VERSIONS * 4 * (targets if merges else adapter_parameters(model, setup.lora)),
        activations=read + config.max_rows * model.vocab_size * 4 * _LOGIT_COPIES,
        runtime=0,
        cache=rows + kept_prompts,
        least_cache=rows + kept_prompts,
        bytes_per_token=per_token,
    )


def _target_weights(setup: Setup) -> int:
    """Weights of the layers that have adapters."""
    model, lora = setup.model, setup.lora
    attention = sum(inputs * outputs for inputs, outputs in model.attention)
    mlp = sum(inputs * outputs for inputs, outputs in model.mlp)
    return (
        model.num_layers * attention * lora.train_attn
        + model.num_dense_layers * mlp * lora.train_mlp
        + model.unembed_weights * lora.train_unembed
    )


def _vllm(setup: Setup, config: VllmSamplerConfig) -> SamplerMemory:
    from tinker_rl.engine.samplers.vllm.config import fitting_rank

    model, kind, item = setup.model, setup.device.kind, setup.item_bytes
    size = config.tensor_parallel_size
    per_token = _bytes_per_token(setup, size)
    rank = config.max_lora_rank or fitting_rank(setup.lora.rank)
    tokens = config.max_step_tokens or _STEP_TOKENS[kind]
    eager = not setup.on_gpu if config.eager is None else config.eager
    fixed = SamplerMemory(
        weights=-(-model.total_parameters * item // size),
        adapters=config.max_loras * rank * _slot_dims(model, size) * item,
        activations=tokens * _step_bytes(model, item, size)
        + config.max_running * model.vocab_size * 4 * _LOGIT_COPIES,
        runtime=_RUNTIME_BYTES[kind] + (0 if eager else _GRAPH_BYTES),
        cache=0,
        least_cache=(config.max_model_len or setup.context) * per_token,
        bytes_per_token=per_token,
    )
    if config.kv_cache_gb is not None:
        cache = int(config.kv_cache_gb * GB)
    elif setup.on_gpu:
        share = config.memory_share or DEFAULT_SHARE
        cache = max(0, int(share * setup.device.total_bytes) - fixed.fixed)
    else:
        cache = CPU_CACHE_BYTES
    return msgspec.structs.replace(fixed, cache=cache)


def _slot_dims(model: Architecture, tensor_parallel_size: int) -> int:
    """Size of a slot of rank 1: inputs and outputs of all layers that vLLM gives slots.

    Those are all linear layers, every expert by itself, embedding and unembedding, whatever an
    adapter is on. Several GPUs share the side of a layer that does not face the hidden size.
    """
    hidden, size = model.hidden_size, tensor_parallel_size

    def dims(inner: int) -> int:
        return hidden + -(-inner // size)

    queries, keys = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    attention = 2 * dims(queries) + 2 * dims(keys)
    experts = model.num_experts * 3 * dims(model.moe_intermediate_size) + hidden + model.num_experts
    return (
        model.num_layers * attention
        + model.num_dense_layers * 3 * dims(model.intermediate_size)
        + model.num_moe_layers * experts
        + 2 * (model.vocab_size + hidden)
    )


def _step_bytes(model: Architecture, item_bytes: int, tensor_parallel_size: int = 1) -> int:
    """What a forward pass that keeps nothing needs for one token."""
    queries, keys = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    inner = max(
        model.intermediate_size if model.num_dense_layers else 0,
        model.experts_per_token * (model.moe_intermediate_size + model.hidden_size),
    )
    split = 3 * inner + 2 * (queries + 2 * keys)
    return item_bytes * (6 * model.hidden_size + -(-split // tensor_parallel_size))
