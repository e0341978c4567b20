"""Tokenizers of base models, without torch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tinker_rl.lineup import model_path, unavailable

__all__ = ["get_tokenizer"]


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
    except Exception as error:  # each library that reads a part of it has errors of its own
        raise unavailable(model_name, str(error).split("\n")[0]) from error
