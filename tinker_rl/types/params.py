"""How to sample, to step, and to shape an adapter."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["AdamParams", "LoraConfig", "SamplingParams"]


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to sample.

    `stop`: None stops at the model's end-of-sequence token; `[]` at nothing; a string or strings at
    the token that completes one of them; token ids at these (and not at end-of-sequence).
    """

    max_tokens: int | None = None
    """Most tokens to generate; None: up to the end of the context."""
    seed: int | None = None
    """Same seed and request, same tokens (up to rounding); samples of one request differ."""
    stop: str | Sequence[str | int] | None = None
    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = -1
    """-1: no limit."""
    top_p: float = 1.0


class AdamParams(msgspec.Struct, frozen=True, kw_only=True):
    """AdamW with decoupled weight decay; `grad_clip_norm` 0 means no clipping."""

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


class LoraConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which low-rank adapter to train. Its product is scaled by lora_alpha / rank."""

    rank: int = 32
    seed: int | None = None
    train_mlp: bool = True
    train_attn: bool = True
    train_unembed: bool = True
    lora_alpha: float = 32.0
    """Not in the SDK. With Tinker's 32, the best learning rate hardly depends on the rank."""
