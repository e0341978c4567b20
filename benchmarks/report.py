"""How every benchmark reports: a table for people, then one JSON object as the last line."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def report(title: str, rows: Sequence[tuple[str, str, str]], figures: dict[str, float]) -> None:
    """Print `rows` of (what, figure, how it was measured), and `figures` as JSON."""
    table = Table(title=title)
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("how")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
    print(json.dumps({key: float(f"{value:.4g}") for key, value in figures.items()}))
