"""The options of a check, looked at before anything is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinker_rl.errors import ConfigError, UnknownNameError, choices
from tinker_rl.testing.checks.properties import PROPERTIES

__all__ = ["check_options"]


def check_options(
    properties: Sequence[str] | None,
    skip: Mapping[str, str] | None,
    valid_actions: Any,
    valid_episodes: Any,
    reward_range: tuple[float, float] | None,
    max_examples: int | None,
) -> None:
    """Check that the options of `check_env` make sense, each and together.

    Raises:
        ConfigError: saying what to write instead.
        UnknownNameError: if there is no such property.
    """
    if skip is not None and not isinstance(skip, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(
            f"check_env.skip: expected names with reasons; got {skip!r}. Write "
            "skip={'pickles': 'it holds a simulator'}."
        )
    if isinstance(properties, str):
        raise ConfigError(
            f"check_env.properties: expected a list of names; got the text {properties!r}. Write "
            f"properties=[{properties!r}]."
        )
    for name in (*(properties or ()), *(skip or ())):
        if name not in PROPERTIES:
            raise UnknownNameError(
                f"check_env: expected names of properties; got {name!r}.{choices(name, PROPERTIES)}"
            )
    if isinstance(valid_actions, str):
        raise ConfigError(
            "check_env.valid_actions: expected a list of actions, or a strategy; got the text "
            f"{valid_actions!r}. Write valid_actions=[{valid_actions!r}]."
        )
    if isinstance(valid_episodes, str) or not all(
        isinstance(episode, Sequence) and episode and not isinstance(episode, str)
        for episode in valid_episodes
    ):
        raise ConfigError(
            "check_env.valid_episodes: expected a list of episodes, each a list of actions; got "
            f"{valid_episodes!r}. Write valid_episodes=[['open', 'take'], ['leave']]."
        )
    if "rewards_in_range" in (properties or ()) and reward_range is None:
        raise ConfigError(
            "check_env.reward_range: expected the least and the greatest return, for the property "
            "'rewards_in_range'; got none. Write reward_range=(0.0, 1.0), or what is true."
        )
    if max_examples is not None and max_examples < 1:
        raise ConfigError(
            f"check_env.max_examples: expected 1 or more; got {max_examples}. Leave it out."
        )
