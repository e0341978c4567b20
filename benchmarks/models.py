"""Random models for benchmarks: the speed of a model does not depend on what it has learned."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from tinker_rl.tokenizers import get_tokenizer


def small_model(folder: Path) -> str:
    """Write a Qwen3 of 27M parameters with `tiny`'s tokenizer; returns its folder."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=8192,
            hidden_size=512,
            num_hidden_layers=8,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=64,
            intermediate_size=1344,
            tie_word_embeddings=True,
            max_position_embeddings=1024,
        )
    )
    model.save_pretrained(folder)
    get_tokenizer("tiny").save_pretrained(folder)
    return str(folder)
