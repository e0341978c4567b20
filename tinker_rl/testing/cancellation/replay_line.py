"""The call that finds the same again, so that it can be pasted where the first one stands."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import msgspec

from tinker_rl.rl import RolloutLimits

__all__ = ["ReplayLine"]

MAX_LENGTH = 120
"""Characters of an argument that is written out."""


class ReplayLine(msgspec.Struct, frozen=True):
    """A call of `cancel_everywhere` with another point each time.

    Args:
        builder: What was given for it.
        options: What else was given, by name, without what is as it is by default.
        scope: What names stand for where the call is.
    """

    builder: Any
    options: Mapping[str, Any]
    scope: Mapping[str, Any]

    def at(self, number: int | None) -> str:
        """The call for one point, and behind it, as a comment, what its names stand for.

        Args:
            number: Of the point; None: what is found in a group that is not cancelled.
        """
        builder = self._code(self.builder)
        arguments = [builder or "make_builder", *([] if number is None else [f"at={number}"])]
        remarks = [*_values(self.builder)]
        if builder is None:
            kind = type(self.builder).__name__
            is_function = kind in ("function", "method", "partial")
            made = "is the function that was given" if is_function else f"makes the {kind}"
            remarks = [f"make_builder {made}"]
        for name, value in self.options.items():
            code = self._code(value)
            arguments.append(f"{name}={code or '...'}")
            remarks += [*_values(value)] if code else [f"{name}: as it was given"]
        comment = ", ".join(dict.fromkeys(remarks))
        return f"cancel_everywhere({', '.join(arguments)}){comment and f'  # {comment}'}"

    def _code(self, value: Any) -> str | None:
        """Its own name or source, or else the variable that holds it."""
        held = [name for name, other in self.scope.items() if other is value]
        return spelled(value) or (held[-1] if held else None)  # what is local is last


def spelled(value: Any) -> str | None:
    """How code names or makes a value: a class or function by its name, a lambda by its source.

    Returns:
        None where nothing short does.
    """
    code: str | None = None
    if _is_plain(value):
        code = repr(value)
    elif isinstance(value, RolloutLimits):
        default = RolloutLimits()
        pairs = [
            f"{name}={given!r}"
            for name, given in vars_of(value).items()
            if given != getattr(default, name)
        ]
        code = f"RolloutLimits({', '.join(pairs)})"
    elif isinstance(value, partial):
        pieces = [spelled(value.func), *map(spelled, value.args)]
        named = {name: spelled(given) for name, given in value.keywords.items()}
        if None not in (*pieces, *named.values()):
            inner = [*(str(piece) for piece in pieces), *(f"{k}={v}" for k, v in named.items())]
            code = f"partial({', '.join(inner)})"
    elif isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        node = _lambda_of(value)
        code = None if node is None else ast.unparse(node)
    elif isinstance(value, type | FunctionType | BuiltinFunctionType) or (
        isinstance(value, MethodType) and isinstance(value.__self__, type)
    ):
        code = value.__qualname__.rpartition("<locals>.")[2]
    return code if code is not None and len(code) <= MAX_LENGTH else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(each) for pair in value.items() for each in pair)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)  # pyright: ignore[reportUnknownVariableType]
    return value is None or (isinstance(value, bool | int | float | str) and len(repr(value)) < 60)


def vars_of(limits: RolloutLimits) -> dict[str, Any]:
    """The fields of limits by their names."""
    return {name: getattr(limits, name) for name in RolloutLimits.__annotations__}


def _values(value: Any) -> Iterator[str]:
    """What the names in a lambda stand for, where that is short: `size = 3`."""
    node = _lambda_of(value) if isinstance(value, FunctionType) else None
    if node is None:
        return
    cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
    for part in ast.walk(node):
        if not isinstance(part, ast.Name):
            continue
        try:
            found = cells[part.id].cell_contents if part.id in cells else value.__globals__[part.id]
        except (KeyError, ValueError):  # a name of the lambda's own, or not set by now
            continue
        if _is_plain(found):
            yield f"{part.id} = {found!r}"


def _lambda_of(function: FunctionType) -> ast.Lambda | None:
    """The lambda in its file; None if there is no file, or it cannot be told from another."""
    code = function.__code__
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename, function.__globals__)))
    except SyntaxError:
        return None
    places = set(code.co_positions())
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda)
        and node.lineno == code.co_firstlineno
        and _position(node.body) in places
    ]
    return found[0] if len(found) == 1 else None


def _position(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
