"""Where a suspended coroutine waits."""

from __future__ import annotations

import dis
import gc
import sysconfig
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from tinker_rl.envs.error_reports import is_ours

__all__ = ["DRIVERS", "await_chain", "is_library", "step_awaits"]

DRIVERS: set[CodeType] = set()
"""Generators that step a coroutine by hand, which they hold in a local variable `driven`."""

_PATHS = sysconfig.get_paths()
_LIBRARIES = tuple(_PATHS[name] for name in ("purelib", "platlib", "stdlib", "platstdlib"))

_WITH_FRAMES = (CoroutineType, GeneratorType, AsyncGeneratorType)

_OPAQUE = frozenset(
    {"coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"}
)
"""Types of CPython that hold what they await where no attribute shows it."""


def await_chain(awaitable: Any) -> list[FrameType]:
    """The frames of a suspended coroutine and of what it awaits, the outermost first.

    It ends where something is awaited that has no frame, such as a future.
    """
    frames: list[FrameType] = []
    while awaitable is not None:
        if type(awaitable) is CoroutineType:  # by far the most
            frame = awaitable.cr_frame
            if frame is not None:
                frames.append(frame)
            awaitable = awaitable.cr_await
            continue
        frame = _first(awaitable, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            frames.append(frame)
        awaitable = _awaited(awaitable)
    return frames


def is_library(frame: FrameType) -> bool:
    """Whether a frame is of an installed package or of the standard library."""
    return frame.f_code.co_filename.startswith((*_LIBRARIES, "<frozen"))


def step_awaits(env: Any) -> bool | None:
    """Whether the `step` of an environment has an await; None if it is not the user's."""
    code = getattr(getattr(type(env), "step", None), "__code__", None)
    if code is None or is_ours(code.co_filename):
        return None
    return any(one.opname == "GET_AWAITABLE" for one in dis.get_instructions(code))


def _awaited(awaitable: Any) -> Any:
    if type(awaitable).__name__ in _OPAQUE:
        inner = [held for held in gc.get_referents(awaitable) if isinstance(held, _WITH_FRAMES)]
        return inner[0] if inner else None
    if isinstance(awaitable, GeneratorType) and awaitable.gi_code in DRIVERS:
        return awaitable.gi_frame.f_locals["driven"] if awaitable.gi_frame is not None else None
    return _first(awaitable, "cr_await", "gi_yieldfrom", "ag_await")


def _first(value: Any, *names: str) -> Any:
    values = (getattr(value, name, None) for name in names)
    return next((found for found in values if found is not None), None)
