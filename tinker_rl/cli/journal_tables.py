"""Text and tables of `journal`: wrapped on a terminal, a row a line anywhere else."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["figures", "print_line", "print_table", "table"]

_WIDEST = 1_000_000
"""Columns of what is no terminal: more than any row takes."""


def table(*columns: str) -> Table:
    """A table without lines, whose long cells go on below."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        made.add_column(name, overflow="fold")
    return made


def figures(rows: Iterable[tuple[str, str]]) -> Table:
    """Names, and beside each what it is."""
    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, "dim"), Text(value))
    return grid


def print_table(shown: Table, console: Console) -> None:
    """Print a table; where there is no terminal, rows are not wrapped and end in no blanks."""
    if console.is_terminal:
        console.print(shown)
        return
    wide = Console(file=io.StringIO(), width=_WIDEST, force_terminal=False, highlight=False)
    with wide.capture() as captured:
        wide.print(shown)
    for line in captured.get().splitlines():
        print_line(line.rstrip(), console)


def print_line(text: str, console: Console, style: str = "") -> None:
    """Print a line as it is; what is wider than a terminal, the terminal wraps."""
    console.print(Text(text, style), soft_wrap=True)
