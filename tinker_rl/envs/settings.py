"""What data sets and their builders share: checks, and the renderer that settings name."""

from __future__ import annotations

from tinker_rl.errors import ConfigError
from tinker_rl.renderers import Renderer, get_renderer
from tinker_rl.tokenizers import get_tokenizer

__all__ = ["check_at_least_one", "check_index", "load_renderer"]


def check_at_least_one(where: str, **settings: int) -> None:
    """Check that settings are positive. Raises ConfigError naming the first that is not."""
    for name, value in settings.items():
        if value < 1:
            raise ConfigError(
                f"{where}.{name}: expected 1 or more; got {value}. Give it a positive number."
            )


def check_index(where: str, index: int, length: int) -> None:
    """Check the number of a batch. Raises IndexError, which also ends a `for` over a data set."""
    if not 0 <= index < length:
        raise IndexError(
            f"{where}.get_batch: expected an index from 0 to {length - 1}; got {index}. "
            "Build the data set with more batches, or stop after the last."
        )


def load_renderer(model_name_for_tokenizer: str, renderer_name: str) -> Renderer:
    """The renderer of a data set. Reads the tokenizer's files: call it from a worker thread."""
    return get_renderer(renderer_name, get_tokenizer(model_name_for_tokenizer))
