"""Values as the page takes them: JSON that every reader reads alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = [
    "NONE",
    "Names",
    "encode",
    "flat",
    "number",
    "plain",
    "significant",
    "text",
    "with_nulls",
]

Array: TypeAlias = npt.NDArray[Any]

NONE = -1
"""In columns of integers that have none below 0: no value."""
_LARGEST_INT = 2**53
"""Integers beyond are rounded by JavaScript."""
_MOST_DECIMALS = 15


def text(value: object) -> str:
    """Text without halves of surrogate pairs, which UTF-8 has no form for."""
    return str(value).encode(errors="replace").decode()


def number(value: object) -> float | int | None:
    """A number; None for what is none, for NaN and for infinities."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and abs(value) <= _LARGEST_INT:
        return value
    if not isinstance(value, int | float):
        return None
    try:
        exact = float(value)
    except OverflowError:
        return None
    return exact if math.isfinite(exact) else None


def plain(value: Any) -> Any:
    """Any value of a config, a log or a span as JSON; what JSON has no form for becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        found = number(value)
        return text(value) if found is None else found
    if isinstance(value, Mapping):
        return {text(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return text(value)


def flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A tree as one level: `{"a.b": value}`."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        key = f"{before}{text(name)}"
        if isinstance(item, Mapping) and item:
            found |= flat(item, f"{key}.")
        else:
            found[key] = plain(item)
    return found


def significant(values: Array, digits: int) -> Array:
    """Values rounded to so many digits, so that their decimal form is short. float64, same shape.

    Of what is tiny, 15 decimals are kept. NaN and infinities stay what they are.
    """
    exact = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        size = np.floor(np.log10(np.abs(exact)))
        decimals = digits - 1 - np.where(np.isfinite(size), size, 0)
        scale = 10.0 ** np.clip(decimals, 0, _MOST_DECIMALS)
        return np.round(exact * scale) / scale


def with_nulls(column: Array) -> list[int | None]:
    """Integers as a list, None for `NONE`. Shape [N]."""
    values = column.astype(object)
    values[column == NONE] = None
    return values.tolist()


def encode(value: Any) -> bytes:
    """JSON; NaN and infinities become null."""
    return msgspec.json.encode(value)


class Names:
    """Each text once, with the place where it is in the list."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, name: str) -> int:
        """Where the list has it; it is added if it is new."""
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = len(self.names)
            self.names.append(name)
        return found
