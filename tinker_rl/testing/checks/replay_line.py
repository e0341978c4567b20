"""The call that plays a case again, to be pasted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import chz

from tinker_rl.rl.limits import RolloutLimits

__all__ = ["replay_line"]

_LONGEST = 100
"""Characters of a value that is written out."""


def replay_line(replay: str, source: Any, options: Mapping[str, Any]) -> str:
    """`check_env(builder, replay=...)` with the options that the finding may depend on.

    Args:
        replay: The script, as a string.
        source: What was checked. A class or function has a name; anything else is `builder`.
        options: What was given, without what is so by default.
    """
    spelled = {name: _spelled(value) for name, value in options.items()}
    written = [f"{name}={value}" for name, value in spelled.items() if value]
    name = getattr(source, "__qualname__", "")
    call = ", ".join([name if name.isidentifier() else "builder", f'replay="{replay}"', *written])
    unwritten = [name for name, value in spelled.items() if not value]
    same = f"\nand give it the same {' and '.join(unwritten)}" if unwritten else ""
    return f"check_env({call}){same}"


def _spelled(value: Any) -> str:
    """A value as Python code; empty if it is long, or has none."""
    if isinstance(value, RolloutLimits):
        default, given = chz.asdict(RolloutLimits()), chz.asdict(value)
        fields = [f"{k}={v!r}" for k, v in given.items() if v != default[k]]
        return f"RolloutLimits({', '.join(fields)})"
    written = repr(value) if _is_plain(value) else ""
    return written if len(written) <= _LONGEST else ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(each) for pair in value.items() for each in pair)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)  # pyright: ignore[reportUnknownVariableType]
    return value is None or isinstance(value, bool | int | float | str)
