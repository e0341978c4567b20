"""Low-rank adapters on one shared base model, through peft.

The product of an adapter is scaled by alpha / rank. Alpha is 32 unless it is set, Tinker's
convention, so the best learning rate hardly depends on the rank.
Source: LoRA, arXiv:2106.09685; https://thinkingmachines.ai/blog/lora/.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import msgspec
import peft
import torch
from peft.utils.save_and_load import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tinker_rl.errors import ConfigError, UnsupportedError
from tinker_rl.types import LoraConfig

__all__ = [
    "LinearLayers",
    "adapter_parameters",
    "adapter_tensors",
    "add_adapter",
    "lora_scale",
    "peft_config",
    "remove_adapter",
    "target_modules",
]

_ATTENTION = ("attn", "attention")


class LinearLayers(msgspec.Struct, frozen=True):
    """The layers of a bare model that adapters may be put on."""

    attention: tuple[str, ...]
    """Paths of the linear layers of attention blocks."""
    mlp: tuple[str, ...]
    """Paths of the other linear layers, the unembedding left out."""
    unembed: str | None
    """Path of the unembedding."""
    fused_experts: str | None
    """A parameter that holds several experts in one tensor, if there is one."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> LinearLayers:
        """Look through a model that no adapter was put on yet."""
        head = model.get_output_embeddings()
        attention: list[str] = []
        mlp: list[str] = []
        unembed = None
        for path, module in model.named_modules():
            if module is head:
                unembed = path
            elif isinstance(module, nn.Linear | Conv1D):
                is_attention = any(word in path for word in _ATTENTION)
                (attention if is_attention else mlp).append(path)
        fused = (n for n, p in model.named_parameters() if "experts" in n and p.ndim == 3)
        return cls(tuple(attention), tuple(mlp), unembed, next(fused, None))


def _suffixes(paths: Iterable[str], parts: int) -> set[str]:
    return {".".join(path.split(".")[-parts:]) for path in paths}


def target_modules(layers: LinearLayers, config: LoraConfig) -> list[str]:
    """The shortest module suffixes that select what the flags of `config` ask for.

    Raises:
        ConfigError: if the flags select nothing.
        UnsupportedError: if `train_mlp` meets experts stored as one fused tensor.
    """
    if layers.fused_experts and config.train_mlp:
        raise UnsupportedError(
            f"create_lora_training_client: expected linear MLP layers; got fused experts "
            f"({layers.fused_experts}), on which adapters are not supported yet. Pass "
            "train_mlp=False."
        )
    chosen = [
        *(layers.attention if config.train_attn else ()),
        *(layers.mlp if config.train_mlp else ()),
    ]
    others = {*layers.attention, *layers.mlp} - set(chosen)
    parts = 1 if not _suffixes(chosen, 1) & _suffixes(others, 1) else 2
    suffixes = _suffixes(chosen, parts)
    if config.train_unembed and layers.unembed is not None:
        suffixes.add(layers.unembed.rsplit(".", 1)[-1])
    if not suffixes:
        raise ConfigError(
            "create_lora_training_client: expected at least one of train_attn, train_mlp and "
            "train_unembed; got none. Set one of them."
        )
    return sorted(suffixes)


def lora_scale(config: LoraConfig) -> float:
    """What the product of an adapter's two factors is multiplied by."""
    return config.lora_alpha / config.rank


def peft_config(layers: LinearLayers, config: LoraConfig) -> peft.LoraConfig:
    """The peft configuration of `config`, with targets named as this model names them."""
    if not isinstance(config.rank, int) or config.rank < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(
            f"LoraConfig.rank: expected an integer of 1 or more; got {config.rank!r}."
        )
    alpha = config.lora_alpha
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ConfigError(
            f"LoraConfig.lora_alpha: expected a finite number above 0; got {alpha!r}. Leave it out "
            "for 32, as Tinker has it."
        )
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,  # pyright: ignore[reportArgumentType]
        target_modules=target_modules(layers, config),
        lora_dropout=0.0,
        bias="none",
        task_type=peft.TaskType.CAUSAL_LM,
    )


@contextmanager
def _expected_warnings() -> Generator[None]:
    """Silences what peft says of cases that are meant.

    It warns against merging an adapter on a tied unembedding, which nobody does there, and says
    that it has set an option for the transposed layers of GPT-2 by itself.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        warnings.filterwarnings("ignore", message=".*tied.*")
        yield


def add_adapter(
    model: PreTrainedModel | peft.PeftModel, name: str, config: peft.LoraConfig, seed: int
) -> peft.PeftModel:
    """Put a freshly initialised adapter on `model`, in place. Same seed, same bytes."""
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), _expected_warnings():
        torch.manual_seed(seed)
        if isinstance(model, peft.PeftModel):
            model.add_adapter(name, config)
            return model
        wrapped = peft.get_peft_model(model, config, adapter_name=name)
        assert isinstance(wrapped, peft.PeftModel)
        return wrapped


def remove_adapter(model: peft.PeftModel, name: str) -> None:
    """Take an adapter off, with its tensors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Aa]dapter.*")
        model.delete_adapter(name)


def adapter_parameters(model: peft.PeftModel, name: str) -> dict[str, nn.Parameter]:
    """The trained parameters of one adapter, by their name in the model."""
    return {n: p for n, p in model.named_parameters() if f".{name}." in n}


def adapter_tensors(model: peft.PeftModel, name: str) -> dict[str, Tensor]:
    """The adapter's tensors under the names of a peft adapter file, detached: views, not copies.

    peft walks through the whole model for them, so ask once.
    """
    with _expected_warnings():
        state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: value.detach() for key, value in state.items()}
