"""Tokenizers of base models, without torch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tinker_rl.errors import UnknownNameError
from tinker_rl.lineup import model_path

__all__ = ["get_tokenizer", "unavailable"]


def unavailable(name: str, what: str, error: Exception) -> UnknownNameError:
    """The error of a base model that transformers cannot load, with its reason."""
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return UnknownNameError(
        f"base_model {name!r}: expected a {what} that transformers can load from the hub, its "
        f"cache or a local folder; got: {reason} Pass a folder, log in to the hub, or use "
        "base_model='tiny', which needs neither."
    )


@lru_cache(maxsize=16)
def get_tokenizer(model_name: str) -> Any:
    """The tokenizer of a base model (of transformers), loaded once a process.

    Args:
        model_name: A name of the lineup, a hub name `owner/model`, or a local folder.
    Raises:
        UnknownNameError: if it cannot be had; the message says why.
    """
    from transformers import AutoTokenizer  # heavy: only when a tokenizer is asked for

    path = model_path(model_name)
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise unavailable(model_name, "tokenizer", error) from error
