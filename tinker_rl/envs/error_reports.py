"""What a user's code raised, in words that can be stored: the error, its text, and where."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec

__all__ = ["ErrorReport", "ReportedError", "is_ours", "place_of", "report_of"]

MAX_CHARACTERS = 4000
"""Longest text of an error that is kept."""

_OURS = str(Path(__file__).parents[1])
_PATHS = sysconfig.get_paths()
_PACKAGES = (_PATHS["purelib"], _PATHS["platlib"])
_STANDARD = (_PATHS["stdlib"], _PATHS["platstdlib"], "<frozen")


class ErrorReport(msgspec.Struct, frozen=True):
    """An error in words."""

    error_type: str
    """Class of the error."""
    text: str
    """What it said."""
    location: str
    """`file:line` of the user's code that raised it; empty where none did."""


class ReportedError(Exception):
    """An error that was raised in another process, of which the report came back."""

    def __init__(self, report: ErrorReport) -> None:
        super().__init__(f"{report.error_type}: {report.text}")
        self.report = report

    def __reduce__(self) -> tuple[type[ReportedError], tuple[ErrorReport]]:
        return ReportedError, (self.report,)


def report_of(error: BaseException) -> ErrorReport:
    """An error in words; of an exception group, the errors inside."""
    if isinstance(error, ReportedError):
        return error.report
    leaves = list(_leaves(error))
    location = next((place for place in map(place_of, [*leaves, error]) if place), "")
    if len(leaves) == 1:
        return ErrorReport(type(leaves[0]).__name__, _text(leaves[0]), location)
    told = "; ".join(f"{type(leaf).__name__}: {_text(leaf)}" for leaf in leaves)
    return ErrorReport(type(error).__name__, told[:MAX_CHARACTERS], location)


def place_of(error: BaseException) -> str:
    """`file:line` of the last of the user's frames that `error` came through.

    That is code outside tinker_rl and, where there is any, outside installed packages and the
    standard library. Empty if all of it was ours.
    """
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not is_ours(frame.filename)
    ]
    for foreign in ((*_PACKAGES, *_STANDARD), _STANDARD):
        users = [frame for frame in frames if not frame.filename.startswith(foreign)]
        if users:
            return f"{users[-1].filename}:{users[-1].lineno}"
    return ""


def is_ours(filename: str) -> bool:
    """Whether a file belongs to tinker_rl."""
    return filename.startswith(_OURS)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as broken:
        text = f"(its text could not be made: {type(broken).__name__})"
    # What is stored is UTF-8, which has no place for half a surrogate pair.
    return text[:MAX_CHARACTERS].encode(errors="replace").decode()
