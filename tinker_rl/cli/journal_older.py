"""Journals that a run put aside when its options changed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from tinker_rl.rl.journal import JOURNAL_FILE

__all__ = ["how_to_read_older", "older_journals"]

_STEM, _SUFFIX = JOURNAL_FILE.split(".")
_PUT_ASIDE = re.compile(rf"{_STEM}\.(\d+)\.{_SUFFIX}")


def older_journals(path: Path) -> Sequence[Path]:
    """`journal.1.bin` and such beside a journal, those put aside before it, oldest first."""
    numbered = sorted((number, file) for file in path.parent.iterdir() if (number := _number(file)))
    before = _number(path)
    return [file for number, file in numbered if before is None or number < before]


def _number(path: Path) -> int | None:
    match = _PUT_ASIDE.fullmatch(path.name)
    return int(match[1]) if match else None


def how_to_read_older(path: Path) -> str:
    """What to do to see steps from before the options changed; empty where there are none."""
    older = older_journals(path)
    if not older:
        return ""
    commands = "".join(f"\n  python -m tinker_rl journal {shlex.quote(str(p))}" for p in older)
    where = "another journal" if len(older) == 1 else "other journals, oldest first"
    return f"What came before the options changed is in {where}:{commands}"
