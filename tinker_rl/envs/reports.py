"""What environments report, in Python's own numbers and text, so that a journal can store it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from tinker_rl.envs.answers import named
from tinker_rl.errors import RequestError

__all__ = ["Logs", "Metrics", "plain_logs", "plain_metrics", "plain_reward"]

Metrics: TypeAlias = dict[str, float | int]
"""Numbers that are averaged over episodes."""
Logs: TypeAlias = dict[str, str | int | float]
"""What a person wants to read about one step; never averaged."""

_DICT = "Leave it out where there is nothing to say."


def plain_reward(where: str, value: Any) -> float:
    """A reward as a Python float.

    Raises:
        RequestError: if it is no number, or not finite: training on it would be nonsense.
    """
    try:
        reward = _float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(
            f"{where}: expected a number; got {value!r}. Return a float from the environment."
        ) from error
    if not math.isfinite(reward):
        raise RequestError(
            f"{where}: expected a finite number; got {reward}. Find out in the environment how it "
            "came about; a failure should be raised, not rewarded."
        )
    return reward


def plain_metrics(where: str, metrics: Mapping[str, Any]) -> Metrics:
    """Metrics as Python numbers. Raises RequestError for what is none."""
    if not isinstance(metrics, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(f"{where}: expected a dict of numbers; got {named(metrics)}. {_DICT}")
    return {_text(key): _number(f"{where}[{key!r}]", value) for key, value in metrics.items()}


def _number(where: str, value: Any) -> float | int:
    if type(value) is float or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    try:
        return _float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(
            f"{where}: expected a number; got {value!r}. Put text into logs instead."
        ) from error


def plain_logs(where: str, logs: Mapping[str, Any]) -> Logs:
    """Logs as numbers and text; anything else becomes its text."""
    if not isinstance(logs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(f"{where}: expected a dict; got {named(logs)}. {_DICT}")
    return {_text(key): _log_value(value) for key, value in logs.items()}


def _log_value(value: Any) -> str | int | float:
    if type(value) is float or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    return _text(value)


def _text(value: object) -> str:
    # What is stored is UTF-8, which has no place for half a surrogate pair.
    return str(value).encode(errors="replace").decode()


def _float(value: Any) -> float:
    if isinstance(value, str | bytes):  # float() would read them
        raise TypeError
    return float(value)
