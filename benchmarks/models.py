"""Random models for benchmarks: the speed of a model does not depend on what it has learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from tinker_rl.tokenizers import get_tokenizer

_SMALL: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "intermediate_size": 1344,
    "tie_word_embeddings": True,
    "max_position_embeddings": 1024,
}
_QWEN3: dict[str, Any] = {
    "vocab_size": 151936,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
}

SHAPES: dict[str, dict[str, Any]] = {
    "small": _SMALL,
    "wide": {**_SMALL, "vocab_size": 151936},
    "0.6b": {
        **_QWEN3,
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "intermediate_size": 3072,
        "tie_word_embeddings": True,
    },
    "8b": {
        **_QWEN3,
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "intermediate_size": 12288,
        "tie_word_embeddings": False,
    },
}
"""Options of Qwen3 by name: `small` has 27M parameters, `wide` is `small` with the vocabulary of
Qwen3, the others are the models of that size. Source: the models' config.json."""


def random_model(name: str, folder: Path) -> str:
    """Write a Qwen3 of that shape with `tiny`'s tokenizer; returns its folder.

    float32 on a CPU; bfloat16 where there is a GPU, on which it is then made.
    """
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", None)
    torch.manual_seed(0)
    with torch.device(device):
        config = Qwen3Config(**SHAPES[name])
        model = AutoModelForCausalLM.from_config(config, dtype=dtype or torch.float32)
    model.save_pretrained(folder)
    get_tokenizer("tiny").save_pretrained(folder)
    return str(folder)


def small_model(folder: Path) -> str:
    """Write a Qwen3 of 27M parameters; returns its folder."""
    return random_model("small", folder)
