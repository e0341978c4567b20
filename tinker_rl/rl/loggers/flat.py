"""Nested options in one level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["flat"]


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"limits": {"max_turns": 3}}` as `{"limits.max_turns": 3}`; lists stay as they are."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
