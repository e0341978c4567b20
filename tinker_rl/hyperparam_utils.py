"""Where to start with the hyperparameters of a model: learning rate, schedule, adapter size.

The names are those of `tinker_cookbook.hyperparam_utils`, so code moves by its import alone.
Sources: https://tinker-docs.thinkingmachines.ai/supervised-learning/sl-hyperparams and
https://tinker-docs.thinkingmachines.ai/rl/rl-hyperparams; LoRA Without Regret,
https://thinkingmachines.ai/blog/lora/.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from tinker_rl.architectures import (
    ARCHITECTURES,
    Architecture,
    Shape,
    get_architecture,
    read_config,
)
from tinker_rl.errors import ConfigError, UnknownNameError, UnsupportedError, choices

__all__ = [
    "EXPONENTS",
    "LORA_MULTIPLIER",
    "LR_BASE",
    "REFERENCE_BATCH_SIZE",
    "REFERENCE_WIDTH",
    "LRSchedule",
    "compute_schedule_lr_multiplier",
    "get_full_finetune_lr_multiplier",
    "get_full_finetune_param_count",
    "get_lora_lr_multiplier",
    "get_lora_lr_over_full_finetune_lr",
    "get_lora_param_count",
    "get_lr",
    "lr_for_width",
    "scale_lr_with_batch_size",
]

LR_BASE = 5e-5
"""Learning rate of full fine-tuning at `REFERENCE_WIDTH`."""
LORA_MULTIPLIER = 10.0
"""How much higher the rate of a low-rank adapter is."""
REFERENCE_WIDTH = 2000
"""Hidden size at which the rate is the same for every family."""
EXPONENTS = {"llama": 0.781, "qwen": 0.0775}
"""How fast the rate falls with the hidden size, by family: fitted on supervised fine-tuning."""
REFERENCE_BATCH_SIZE = 128
"""Where `get_lr` is taken to hold: the size that Tinker recommends for supervised fine-tuning.

In examples for supervised fine-tuning, in problems (groups) for reinforcement learning.
"""

LRSchedule: TypeAlias = Literal["linear", "cosine", "constant"]


# --------------------------------------------------------------------------------- learning rate


def lr_for_width(hidden_size: int, exponent: float, is_lora: bool = True) -> float:
    """The formula itself: LR_BASE * M * (2000 / hidden_size) ** exponent.

    M is 10 for a low-rank adapter, of any rank, and 1 for full fine-tuning.
    """
    multiplier = LORA_MULTIPLIER if is_lora else 1.0
    return LR_BASE * multiplier * (REFERENCE_WIDTH / hidden_size) ** exponent


def get_lr(
    model_name: str,
    is_lora: bool = True,
    *,
    batch_size: float | None = None,
    exponent: float | None = None,
) -> float:
    """The learning rate of Adam to start from: `lr_for_width` with the exponent of the family.

    The family is that of the model's type: one with `llama` or `qwen` in it. So `tiny`, a Qwen3,
    has the exponent of Qwen, though nothing so narrow was fitted.

    Args:
        model_name: A name of the lineup, a hub name, or a folder with a `config.json`.
        is_lora: False for full fine-tuning: a tenth.
        batch_size: See `scale_lr_with_batch_size`. None: do not scale.
        exponent: Use this one, whatever the family; 0 for a rate that does not fall with width.
    Raises:
        ConfigError: if the model is of another family and no exponent is given.
        UnknownNameError: if the model's configuration cannot be had; the message says why.
    """
    model_type, hidden_size = _type_and_width(model_name)
    if exponent is None:
        exponent = next((p for name, p in EXPONENTS.items() if name in model_type), None)
    if exponent is None:
        raise ConfigError(
            f"get_lr({model_name!r}): expected a model of a family whose exponent is known, "
            f"{' or '.join(EXPONENTS)}; got one of type {model_type!r}. Pass exponent=... (0: a "
            "rate that does not fall with width), or find the rate by trying some."
        )
    lr = lr_for_width(hidden_size, exponent, is_lora)
    return lr if batch_size is None else scale_lr_with_batch_size(lr, batch_size)


def _type_and_width(model_name: str) -> tuple[str, int]:
    known = ARCHITECTURES.get(model_name)
    if known is not None:
        return known.model_type, known.hidden_size
    config = read_config(model_name).get_text_config()
    return config.model_type, config.hidden_size


def scale_lr_with_batch_size(
    lr: float, batch_size: float, reference_batch_size: float = REFERENCE_BATCH_SIZE
) -> float:
    """Carry a rate that suits one batch size over to another: it goes with the square root.

    This holds for small batches, where a run depends on lr / sqrt(batch_size) alone; beyond some
    size a larger batch gains nothing, and with low-rank adapters sooner than without. In
    reinforcement learning the batch size is the number of problems (groups) in a step.

    Raises:
        ConfigError: unless both batch sizes are finite and above 0.
    Source:
        Tinker's pages on hyperparameters; Shallue et al., arXiv:1811.03600.
    """
    for name, size in (("batch_size", batch_size), ("reference_batch_size", reference_batch_size)):
        if not 0 < size < math.inf:
            raise ConfigError(
                f"scale_lr_with_batch_size: expected {name} above 0; got {size}. Pass the number "
                "of examples, or of groups, in one step."
            )
    return lr * math.sqrt(batch_size / reference_batch_size)


def get_lora_lr_over_full_finetune_lr(model_name: str, lora_alpha: int = 32) -> float:
    """How much higher the rate of a low-rank adapter is than that of full fine-tuning: 10.

    Neither argument matters; they are there because the cookbook has them. In runs of about a
    hundred steps the best ratio is nearer 15.
    """
    return LORA_MULTIPLIER


def get_full_finetune_lr_multiplier(model_name: str) -> float:
    """1 / sqrt(parameters): rates of full fine-tuning compare by it, where no better is known."""
    return 1.0 / math.sqrt(get_full_finetune_param_count(model_name))


def get_lora_lr_multiplier(model_name: str) -> float:
    """A rate for model B from a good one for A: lr_A * multiplier(B) / multiplier(A).

    The cookbook's older rule, which `get_lr` of both models replaces where it knows them.
    """
    return get_full_finetune_lr_multiplier(model_name) * get_lora_lr_over_full_finetune_lr(
        model_name
    )


def compute_schedule_lr_multiplier(
    lr_schedule: LRSchedule, step: int, total_steps: int, warmup_steps: int = 0
) -> float:
    """The factor on the learning rate at a step.

    Falls from 1 at the first step to 0 after the last one, along a line or half a cosine; or stays
    at 1. With a warm-up it first rises, evenly, to 1 at step `warmup_steps - 1`.

    Args:
        lr_schedule: `linear`, `cosine` or `constant`.
        step: From 0 to `total_steps`.
        total_steps: Steps of the whole run, the warm-up included.
    Raises:
        UnknownNameError: if there is no such schedule.
        ConfigError: if a number is out of its range.
    """
    if lr_schedule not in get_args(LRSchedule):
        raise UnknownNameError(
            f"lr_schedule: expected the name of a schedule; got {lr_schedule!r}."
            f"{choices(str(lr_schedule), get_args(LRSchedule))}"
        )
    if not 0 <= warmup_steps < total_steps:
        raise ConfigError(
            f"compute_schedule_lr_multiplier: expected 0 <= warmup_steps < total_steps; got "
            f"warmup_steps={warmup_steps}, total_steps={total_steps}. Pass the steps of the run."
        )
    if not 0 <= step <= total_steps:
        raise ConfigError(
            f"compute_schedule_lr_multiplier: expected a step from 0 to {total_steps}; got {step}. "
            "Pass the steps of the whole run as total_steps."
        )
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    step, total_steps = step - warmup_steps, total_steps - warmup_steps
    if lr_schedule == "linear":
        return 1 - step / total_steps
    if lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / total_steps))
    return 1.0


# ------------------------------------------------------------------------------ parameter counts


class _AdapterDims(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs plus outputs of the layers of each kind: the size of an adapter of rank 1."""

    attention: int
    mlp: int
    experts: int
    unembed: int


def get_lora_param_count(
    model_name: str,
    lora_rank: int = 32,
    train_mlp: bool = True,
    train_attn: bool = True,
    train_unembed: bool = True,
    *,
    include_experts: bool = True,
    shared_expert_outer_loras: bool = True,
) -> int:
    """The parameters of a low-rank adapter: rank * (inputs + outputs), over the adapted layers.

    Without experts this is the size of the adapter that `create_lora_training_client` makes. The
    router of a mixture has no adapter.

    Args:
        model_name: A name of the lineup, a hub name, or a folder with a `config.json`.
        train_mlp: Count the MLPs, and the experts.
        include_experts: False to leave the experts out.
        shared_expert_outer_loras: Whether, as in Tinker, the experts of a layer share the factor
            that faces the hidden size. If not, each expert's gate, up and down projection has an
            adapter of its own.
    Raises:
        ConfigError: if the rank is not an integer of 1 or more, or if nothing is trained.
        UnknownNameError: if the model's configuration cannot be had; the message says why.
        UnsupportedError: for experts of a mixture whose layout is not known.
    """
    if not isinstance(lora_rank, int) or lora_rank < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"lora_rank: expected an integer of 1 or more; got {lora_rank!r}.")
    if not (train_mlp or train_attn or train_unembed):
        raise ConfigError(
            "get_lora_param_count: expected at least one of train_attn, train_mlp and "
            "train_unembed; got none. Set one of them."
        )
    with_experts = train_mlp and include_experts
    dims = _adapter_dims(model_name, shared_expert_outer_loras, with_experts)
    return lora_rank * (
        dims.attention * train_attn
        + dims.mlp * train_mlp
        + dims.experts * with_experts
        + dims.unembed * train_unembed
    )


def get_full_finetune_param_count(model_name: str) -> int:
    """All parameters of a model, a tied unembedding counted once.

    Raises:
        UnknownNameError: if the model's configuration cannot be had; the message says why.
    """
    try:
        return get_architecture(model_name).total_parameters
    except UnsupportedError:
        return sum(parameter.numel() for parameter in _skeleton(model_name).parameters())


def _adapter_dims(model_name: str, shared: bool, with_experts: bool) -> _AdapterDims:
    try:
        return _counted_dims(get_architecture(model_name), shared)
    except UnsupportedError:
        return _measured_dims(model_name, with_experts)


def _counted_dims(model: Architecture, shared: bool) -> _AdapterDims:
    inner, outer = model.num_experts * model.moe_intermediate_size, model.hidden_size
    sharers = 1 if shared else model.num_experts
    return _AdapterDims(
        attention=model.num_layers * _dims(model.attention),
        mlp=model.num_dense_layers * _dims(model.mlp),
        experts=model.num_moe_layers * len(model.expert) * (inner + outer * sharers),
        unembed=model.vocab_size + model.hidden_size,
    )


def _dims(shapes: tuple[Shape, ...]) -> int:
    return sum(inputs + outputs for inputs, outputs in shapes)


def _measured_dims(model_name: str, with_experts: bool) -> _AdapterDims:
    """Look through a model without weights, with the rule that the engine has for its layers."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    model = _skeleton(model_name)
    if with_experts and any("experts" in n and p.ndim == 3 for n, p in model.named_parameters()):
        raise UnsupportedError(
            f"get_lora_param_count({model_name!r}): expected experts whose layout is known; got "
            f"those of a {model.config.model_type!r}. Pass include_experts=False."
        )
    head = model.get_output_embeddings()
    sums = {"attention": 0, "mlp": 0, "unembed": 0}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            is_attention = "attn" in path or "attention" in path
            kind = "unembed" if module is head else "attention" if is_attention else "mlp"
            sums[kind] += sum(module.weight.shape)
    return _AdapterDims(**sums, experts=0)


def _skeleton(model_name: str) -> Any:
    """The model without its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    config = read_config(model_name)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise UnsupportedError(
            f"{model_name!r}: expected a causal language model that transformers knows; got "
            f"{config.model_type!r} ({str(error).splitlines()[0][:80]}). Pass another model."
        ) from error
