"""Data sets by name, for recipes and their command lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chz

from tinker_rl.envs.arithmetic import ArithmeticDatasetBuilder
from tinker_rl.envs.gsm8k import Gsm8kDatasetBuilder
from tinker_rl.envs.types import RLDatasetBuilder
from tinker_rl.errors import ConfigError, UnknownNameError, choices

__all__ = ["DATASET_BUILDERS", "get_dataset_builder"]

DATASET_BUILDERS: dict[str, Callable[..., RLDatasetBuilder]] = {
    "arithmetic": ArithmeticDatasetBuilder,
    "gsm8k": Gsm8kDatasetBuilder,
}
"""What `get_dataset_builder` knows."""


def get_dataset_builder(
    name: str,
    *,
    batch_size: int,
    group_size: int,
    model_name_for_tokenizer: str,
    renderer_name: str,
    seed: int = 0,
    **settings: Any,
) -> RLDatasetBuilder:
    """The builder of a data set, ready to be awaited.

    Args:
        name: One of `DATASET_BUILDERS`.
        batch_size: Groups of a batch.
        group_size: Episodes of a group.
        model_name_for_tokenizer: Model whose tokenizer the prompts are for.
        renderer_name: Its chat format; see `tinker_rl.renderers`.
        seed: Decides which problems come when.
        settings: The data set's own settings, such as `data_path`; None means its default.
    Raises:
        UnknownNameError: if there is no such data set.
        ConfigError: if it has no such setting.
    """
    if name not in DATASET_BUILDERS:
        raise UnknownNameError(
            f"get_dataset_builder: expected the name of a data set; got {name!r}."
            f"{choices(name, DATASET_BUILDERS)} For one of your own, pass its builder instead."
        )
    builder = DATASET_BUILDERS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    known = set(chz.chz_fields(builder))
    for key in sorted(given.keys() - known):
        raise ConfigError(
            f"get_dataset_builder({name!r}): expected settings that the data set has; got {key!r}."
            f"{choices(key, known)}"
        )
    return builder(
        batch_size=batch_size,
        group_size=group_size,
        model_name_for_tokenizer=model_name_for_tokenizer,
        renderer_name=renderer_name,
        seed=seed,
        **given,
    )
