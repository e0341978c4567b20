"""Finding what environments share: the usual cause of members that disturb each other."""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from tinker_rl.envs.error_reports import is_ours

__all__ = ["SharedState"]

_CONTAINERS = (list, dict, set, bytearray, deque)
_DEPTH = 3
_EVERYBODYS = ("class attribute ", "default of ", "global ")


class SharedState:
    """The lists, dicts and sets that more than one environment can reach, as they are now.

    Looked through are attributes of the environment and of the objects in it, its classes'
    attributes, the defaults of their methods, and the globals of their modules.
    """

    def __init__(self, envs: Sequence[Any]) -> None:
        reached = [dict(_reachable(env)) for env in envs]
        counts: dict[int, int] = {}
        for paths in reached:
            for place in paths:
                counts[place] = counts.get(place, 0) + 1
        self._found: list[tuple[str, Any, str]] = [
            (path, value, _shown(value))
            for paths in reached[:1]
            for place, (path, value) in paths.items()
            if counts[place] > 1 or path.startswith(_EVERYBODYS)
        ]

    def changed(self) -> str:
        """The first that is not what it was, by the name that it has; empty if there is none."""
        for path, value, before in self._found:
            if _shown(value) != before:
                return path
        return ""


def _reachable(env: Any) -> Iterator[tuple[int, tuple[str, Any]]]:
    seen: set[int] = set()
    # What a class owns comes first: an attribute of the environment may be that, too.
    for owner in dict.fromkeys((type(env), *(type(value) for _, value in _fields(env)))):
        yield from _of_class(owner, seen)
    for name, value in _fields(env):
        yield from _inside(f"{type(env).__name__}.{name}", value, _DEPTH, seen)


def _inside(path: str, value: Any, depth: int, seen: set[int]) -> Iterator[tuple[int, Any]]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, _CONTAINERS):
        yield id(value), (path, value)
    elif depth and _is_users(type(value)):
        for name, inner in _fields(value):
            yield from _inside(f"{path}.{name}", inner, depth - 1, seen)


def _of_class(owner: type[Any], seen: set[int]) -> Iterator[tuple[int, Any]]:
    for kind in owner.__mro__:
        if not _is_users(kind):
            continue
        for name, value in vars(kind).items():
            if inspect.isfunction(value):
                defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
                for default in defaults:
                    path = f"default of an argument of {kind.__name__}.{name}"
                    yield from _inside(path, default, 1, seen)
            elif not name.startswith("__"):
                yield from _inside(f"class attribute {kind.__name__}.{name}", value, 1, seen)
        module = sys.modules.get(kind.__module__)
        for name, value in list(vars(module).items()) if module else ():
            if not name.startswith("__") and isinstance(value, _CONTAINERS):
                yield from _inside(f"global {kind.__module__}: {name}", value, 0, seen)


def _fields(value: Any) -> list[tuple[str, Any]]:
    fields = getattr(value, "__dict__", None)
    return list(fields.items()) if isinstance(fields, dict) else []


def _is_users(kind: type[Any]) -> bool:
    """Whether the class is written by whoever wrote the environment, as far as one can tell."""
    try:
        file = inspect.getfile(kind)
    except (TypeError, OSError):
        return kind.__module__ not in sys.stdlib_module_names and kind.__module__ != "builtins"
    return not is_ours(file) and "site-packages" not in file


def _shown(value: Any) -> str:
    try:
        return f"{len(value)} {repr(value)[:2000]}"
    except Exception:  # whatever somebody's __repr__ raises
        return str(len(value))
