"""Loads a base model and its tokenizer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tinker_rl.engine.lineup import find_model, model_path
from tinker_rl.errors import UnknownNameError

__all__ = ["context_length", "load_base_model", "load_tokenizer"]


def _unavailable(name: str, what: str, error: Exception) -> UnknownNameError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UnknownNameError(
        f"base_model {name!r}: expected a {what} that transformers can load from the hub, its cache "
        f"or a local folder; got: {reason} Pass a folder, log in to the hub, or use "
        "base_model='tiny', which needs neither."
    )


def load_base_model(name: str, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A causal language model, frozen, in evaluation mode, on `device`.

    Raises:
        UnknownNameError: if it cannot be had; the message says why.
    """
    path = model_path(name)
    try:
        AutoConfig.from_pretrained(path)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        raise _unavailable(name, "model", error) from error
    model.requires_grad_(False)
    return model.to(device).eval()  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=16)
def load_tokenizer(name: str) -> Any:
    """The tokenizer of a base model (a transformers tokenizer), loaded once a process.

    Raises:
        UnknownNameError: if it cannot be had; the message says why.
    """
    path = model_path(name)
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise _unavailable(name, "tokenizer", error) from error


def context_length(name: str, model: PreTrainedModel) -> int:
    """Longest sequence of the model, in tokens."""
    entry = find_model(name)
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    known = [n for n in (own, entry.context if entry else None) if n]
    return min(known) if known else 2048
