"""Memory of the learner: frozen weights, adapter, optimiser, and what a micro-batch keeps.

How far off it was: growth of a process on a CPU in one micro-batch of 4096 tokens, random models of
27M parameters, by `benchmarks/memory_plan.py`, which the tests run too. The estimate is that of
activations, logits, allocator and one adapter's gradients; `returned` is with an allocator that
gives tensors back when they are freed (MALLOC_MMAP_THRESHOLD_=4194304).

    | model, precision, checkpointing | measured | estimate | returned: measured | estimate |
    | ------------------------------- | -------- | -------- | ------------------ | -------- |
    | Llama, float32, no              |  2508 MB |  3012 MB |            1373 MB |  1507 MB |
    | Llama, float32, yes             |  1445 MB |  1908 MB |             364 MB |   403 MB |
    | Qwen3, float32, no              |  2556 MB |  3226 MB |            1476 MB |  1607 MB |
    | Llama, bfloat16, no             |  1811 MB |  2593 MB |            1206 MB |  1310 MB |
    | Llama, bfloat16, yes            |   947 MB |  1628 MB |             311 MB |   345 MB |

On a GPU nothing was measured: the same tensors, with keys and values repeated as its kernels need.
"""

from __future__ import annotations

import msgspec

from tinker_rl.architectures import Architecture
from tinker_rl.memory_plan.setup import Setup
from tinker_rl.types import LoraConfig

__all__ = ["LearnerMemory", "adapter_parameters", "adapter_tensors", "learner_memory"]

DEFAULT_TOKENS = {"cpu": 4096, "cuda": 16384}
"""Token budget where `LearnerConfig` leaves it open."""
LOGITS = {"cpu": 4 * 1024 * 1024, "cuda": 16 * 1024 * 1024}
"""Most logits that the learner holds at once, as in `engine.scoring`."""

_LOGIT_COPIES = 4
"""Of base, adapter, their sum in float32, and its gradient."""
_KEY_COPIES = 2
"""A branch of a prefix tree lays out the keys and values of its ancestors again: for answers as
long as their prompt this doubles them."""
_RUNTIME_BYTES = {"cpu": 600_000_000, "cuda": 1_500_000_000}
"""Python with torch, transformers and peft: measured on a CPU. On a GPU its context and the
workspaces of its kernels: a round figure, not measured here."""
_GPU_FRAGMENTATION = 0.1
"""Share of the activations that torch's allocator cannot use."""


class LearnerMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the learner, at the worst moment of a micro-batch of the token budget."""

    weights: int
    """The frozen model, which the embedded sampler shares."""
    adapter: int
    """In float32, whatever the model is in."""
    gradients: int
    """Those of the request at work, and the sum of those before it."""
    optimizer: int
    """Moments of AdamW."""
    activations: int
    """What forward keeps for backward, and what one block needs for a moment."""
    logits: int
    allocator: int
    """What was freed and cannot be used."""
    runtime: int

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return sum(getattr(self, name) for name in self.__struct_fields__)


def adapter_parameters(model: Architecture, lora: LoraConfig) -> int:
    """Parameters of an adapter that the learner makes: none on experts, where it refuses them."""
    return lora.rank * sum(inputs + outputs for inputs, outputs in _adapted(model, lora))


def adapter_tensors(model: Architecture, lora: LoraConfig) -> int:
    """Tensors of the same: two for each layer that has an adapter."""
    return 2 * len(_adapted(model, lora))


def _adapted(model: Architecture, lora: LoraConfig) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer with an adapter."""
    return [
        *(model.attention * model.num_layers if lora.train_attn else ()),
        *(model.mlp * model.num_dense_layers if lora.train_mlp else ()),
        *([(model.hidden_size, model.vocab_size)] if lora.train_unembed else []),
    ]


def learner_memory(setup: Setup) -> LearnerMemory:
    """What the learner takes."""
    kind, model = setup.device.kind, setup.model
    parameters = adapter_parameters(model, setup.lora)
    tokens = token_budget(setup)
    kept, block = _kept_bytes(setup), _largest_block(setup)
    if setup.learner.gradient_checkpointing:
        hidden = model.num_layers * model.hidden_size * setup.item_bytes
        activations = (hidden + block + _transient_bytes(model)) * tokens
    else:
        activations = (kept + _transient_bytes(model)) * tokens
    if setup.on_gpu:
        allocator = int(_GPU_FRAGMENTATION * activations)
    else:
        # Measured: about as much as all blocks keep, also where checkpointing frees it in between.
        allocator = (kept + block) * tokens if setup.device.keeps_freed else 0
    return LearnerMemory(
        weights=model.total_parameters * setup.item_bytes,
        adapter=4 * parameters,
        gradients=2 * 4 * parameters,
        optimizer=2 * 4 * parameters + 4 * adapter_tensors(model, setup.lora),
        activations=activations,
        logits=_logit_bytes(setup, tokens),
        allocator=allocator,
        runtime=_RUNTIME_BYTES[kind],
    )


def token_budget(setup: Setup) -> int:
    """Tokens of a micro-batch."""
    return setup.learner.token_budget or DEFAULT_TOKENS[setup.device.kind]


def _logit_bytes(setup: Setup, tokens: int) -> int:
    vocab = setup.model.vocab_size
    rows = max(64, LOGITS[setup.device.kind] // vocab)
    return min(rows, tokens) * vocab * 4 * _LOGIT_COPIES


# ------------------------------------------------------------- a token's bytes, block by block


def _kept_bytes(setup: Setup) -> int:
    """What the blocks of the model keep of a token without checkpointing."""
    model = setup.model
    attention = model.num_layers * _attention_bytes(setup)
    dense, mixed = model.num_dense_layers, model.num_moe_layers
    return attention + dense * _mlp_bytes(setup) + mixed * _expert_bytes(setup)


def _largest_block(setup: Setup) -> int:
    model = setup.model
    mlp = _mlp_bytes(setup) if model.num_dense_layers else 0
    experts = _expert_bytes(setup) if model.num_moe_layers else 0
    return _attention_bytes(setup) + max(mlp, experts)


def _inputs(setup: Setup, size: int, layers: int) -> int:
    """Input that adapters keep to find their gradient.

    In half precision each layer has a float32 copy of its own; in float32 they share the tensor.
    """
    return 4 * size * (layers if setup.item_bytes == 2 else min(layers, 1))


def _attention_bytes(setup: Setup) -> int:
    """Half a block: a norm, three projections, attention, the output projection."""
    model, item = setup.model, setup.item_bytes
    hidden, rank = model.hidden_size, 4 * setup.lora.rank
    queries, keys = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    # On a GPU, keys and values are repeated for each query head that shares them.
    attended = queries if setup.on_gpu else keys
    kept = 4 * hidden + 4 * (queries + keys) * model.qk_norm  # norms keep their input in float32
    kept += item * (2 * queries + 2 * attended * _KEY_COPIES)  # query, keys, values, and outcome
    if setup.lora.train_attn:
        kept += _inputs(setup, hidden, 3) + _inputs(setup, queries, 1) + 4 * rank
    return kept


def _mlp_bytes(setup: Setup) -> int:
    """The other half: a norm, and three layers with a gate."""
    model, inner = setup.model, setup.model.intermediate_size
    kept = 4 * model.hidden_size + 3 * inner * setup.item_bytes
    if setup.lora.train_mlp:
        kept += _inputs(setup, model.hidden_size, 2) + _inputs(setup, inner, 1)
        kept += 3 * 4 * setup.lora.rank
    return kept


def _expert_bytes(setup: Setup) -> int:
    """The other half in a mixture: the experts that a token goes to, without adapters."""
    model = setup.model
    inner = model.experts_per_token * model.moe_intermediate_size
    gathered = 2 * model.experts_per_token * model.hidden_size
    return 4 * model.hidden_size + (3 * inner + gathered + model.num_experts) * setup.item_bytes


def _transient_bytes(model: Architecture) -> int:
    """What one block needs for a moment, and what stands around the unembedding."""
    inner = max(
        model.intermediate_size if model.num_dense_layers else 0,
        model.experts_per_token * model.moe_intermediate_size,
    )
    return 4 * (3 * inner + 3 * model.hidden_size)
