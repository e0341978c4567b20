"""Locks, semaphores and limiters that an environment can reach, and how much of them is taken."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from threading import Thread
from types import ModuleType
from typing import Any

from tinker_rl.renderers import Renderer

__all__ = ["locks_of"]

MAX_DEPTH = 5
MAX_OBJECTS = 5000


def locks_of(roots: Mapping[str, Any]) -> dict[int, tuple[str, float]]:
    """What can be held among what `roots` lead to: (name, how much of it is taken), by identity.

    Looked at are attributes, containers, classes of the user's and the globals of their modules;
    anything with `locked()`, `borrowed_tokens` or a semaphore's value counts, be it of anyio, trio,
    asyncio or threading.

    Args:
        roots: What to begin with, by name.
    """
    found: dict[int, tuple[str, float]] = {}
    seen: set[int] = set()
    queue: list[tuple[str, Any, int]] = [(name, value, 0) for name, value in roots.items()]
    while queue and len(seen) < MAX_OBJECTS:
        name, value, depth = queue.pop(0)
        if id(value) in seen or isinstance(value, _OPAQUE):
            continue
        seen.add(id(value))
        taken = _taken(value)
        if taken is not None:
            found[id(value)] = name, taken
        elif depth < MAX_DEPTH:
            queue += [(inner, part, depth + 1) for inner, part in _parts(name, value)]
    return found


_OPAQUE = (
    *(str, bytes, bytearray, int, float, complex, bool, type(None), ModuleType, Renderer),
    *(Executor, Thread),  # a thread holds locks of its own while it runs
)


def _taken(value: Any) -> float | None:
    """How much of a lock is taken; None if it is none."""
    if isinstance(value, type):
        return None
    borrowed = getattr(value, "borrowed_tokens", None)
    if isinstance(borrowed, int | float):
        return float(borrowed)
    is_lock = callable(getattr(value, "acquire", None)) and callable(
        getattr(value, "release", None)
    )
    if not is_lock:
        return None
    for name in ("value", "_value"):
        left = getattr(value, name, None)
        if isinstance(left, int):
            return -float(left)
    locked = getattr(value, "locked", None)
    return float(bool(locked())) if callable(locked) else None


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in list(value.items()):
            yield f"{name}[{key!r}]", part
        return
    if isinstance(value, list | tuple | set | frozenset):
        for place, part in enumerate(list(value)):
            yield f"{name}[{place}]", part
        return
    if isinstance(value, type) or callable(getattr(value, "__wrapped__", None)):
        return
    for key, part in list(getattr(value, "__dict__", {}).items()):
        yield f"{name}.{key}", part
    yield from _shared(value)


def _shared(value: Any) -> Iterator[tuple[str, Any]]:
    """What a class of the user's shares: its attributes, and the globals of its module."""
    kind = type(value)
    module = sys.modules.get(kind.__module__)
    if module is None or kind.__module__.partition(".")[0] in _NOT_USERS:
        return
    for base in kind.__mro__:
        for key, part in list(vars(base).items()):
            if _taken(part) is not None:
                yield f"{base.__name__}.{key}", part
    for key, part in list(vars(module).items()):
        if _taken(part) is not None:
            yield f"{module.__name__}.{key}", part


_NOT_USERS = frozenset({"builtins", "tinker_rl", "torch", "transformers", "numpy", "random"})
