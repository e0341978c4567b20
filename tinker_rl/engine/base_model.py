"""Loads a base model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tinker_rl.lineup import find_model, model_path, unavailable

__all__ = ["context_length", "load_base_model"]


def load_base_model(name: str, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A causal language model, frozen, in evaluation mode, on `device`.

    Raises:
        UnknownNameError: if it cannot be had; the message says why.
    """
    path = model_path(name)
    try:
        with _progress(shown=name != "tiny"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, output_loading_info=True
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # each library that reads a part of it has errors of its own
        raise unavailable(name, str(error).split("\n")[0]) from error
    model: PreTrainedModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:  # transformers would go on with random numbers in their place
        raise unavailable(name, f"its files lack {len(missing)} tensors, {missing[0]} for one")
    model.requires_grad_(False)
    return model.to(device).eval()  # pyright: ignore[reportArgumentType]


@contextmanager
def _progress(*, shown: bool) -> Generator[None]:
    """Show transformers' progress bars, or, for what loads in no time, do not."""
    if shown or not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()


def context_length(name: str, model: PreTrainedModel) -> int:
    """Longest sequence of the model, in tokens."""
    entry = find_model(name)
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    known = [n for n in (own, entry.context if entry else None) if n]
    return min(known) if known else 2048
