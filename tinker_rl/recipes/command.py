"""Runs a recipe from the command line: `key=value` arguments, and errors without tracebacks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import anyio
import chz
from chz.blueprint import (
    ConstructionException,
    EntrypointHelpException,
    ExtraneousBlueprintArg,
    InvalidBlueprintArg,
)
from rich.console import Console
from rich.text import Text

from tinker_rl.errors import TinkerRLError

__all__ = ["INTERRUPTED", "run_command"]

C = TypeVar("C")

_CONFIG_ERRORS = (
    ConstructionException,
    ExtraneousBlueprintArg,
    InvalidBlueprintArg,
    TinkerRLError,
    ValueError,
)

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended."""


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside of exception groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def run_command(
    main: Callable[[C], Coroutine[Any, Any, Any] | object], config_class: Callable[..., C]
) -> None:
    """Make a config of the arguments, run `main` on it, and leave with its exit status.

    A coroutine function runs on trio. Errors that a user can mend are printed as they read; any
    other error keeps its traceback. 0: done; 1: an error; 130: ended by Ctrl-C.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    config = _config(config_class, console)
    try:
        result = main(config)
        if isinstance(result, Coroutine):
            anyio.run(_finish, result, backend="trio")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        leaves = list(_leaves(error))
        if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
            sys.exit(INTERRUPTED)
        if not all(isinstance(leaf, TinkerRLError) for leaf in leaves):
            raise
        for leaf in leaves:
            console.print("[red]error[/]:", Text(str(leaf)))
        sys.exit(1)
    except BaseExceptionGroup as error:
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in _leaves(error)):
            sys.exit(INTERRUPTED)
        raise


def _config(config_class: Callable[..., C], console: Console) -> C:
    """The config that the arguments describe; leaves with their error, or their help."""
    try:
        return chz.Blueprint(config_class).make_from_argv(allow_hyphens=True)
    except EntrypointHelpException as help_text:
        print(help_text)
        sys.exit(0)
    except _CONFIG_ERRORS as error:
        console.print("[red]error[/]:", Text(str(error)))
        console.print("Write arguments as key=value; --help lists them.")
        sys.exit(1)


async def _finish(coroutine: Coroutine[Any, Any, Any]) -> None:
    await coroutine
