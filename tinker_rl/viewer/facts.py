"""What a run is and where it stands, from the small files of its folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tinker_rl.rl.checkpoints import CHECKPOINTS_FILE
from tinker_rl.rl.journal import JOURNAL_FILE
from tinker_rl.rl.log_dir import CONFIG_FILE, METRICS_FILE
from tinker_rl.rl.timeline import TIMELINE_FILE
from tinker_rl.viewer.plain import number
from tinker_rl.viewer.timeline import Span

__all__ = [
    "RunState",
    "configured_at",
    "is_run_folder",
    "load_config",
    "older_journals",
    "run_state",
    "runs_inside",
    "steps_planned",
    "updated_at",
]

RunState: TypeAlias = Literal[
    "running", "complete", "interrupted", "failed", "killed", "stopped", "unknown"
]

LOCK_FILE = ".lock"
_LOCKS = Path("/proc/locks")
SUMMARY_FILE = "summary.json"
_SHOWN = (METRICS_FILE, JOURNAL_FILE, TIMELINE_FILE)
"""Files of which one at least is there where there is anything to show."""


def is_run_folder(folder: Path) -> bool:
    """Whether a run has written here: also one that has only begun."""
    names = (*_SHOWN, CONFIG_FILE)
    return any((folder / name).is_file() for name in names) and (
        any((folder / name).is_file() for name in _SHOWN) or _is_ours(load_config(folder)[0])
    )


def runs_inside(folder: Path) -> list[Path]:
    """The runs' folders in a folder, by name."""
    with suppress(OSError):
        return [path for path in sorted(folder.iterdir()) if is_run_folder(path)]
    return []


def _is_ours(config: Mapping[str, Any]) -> bool:
    return "log_path" in config


def load_config(folder: Path) -> tuple[dict[str, Any], str | None]:
    """The run's options, empty where there are none to be read, and what is wrong with the file."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, None
    except OSError as error:
        return {}, error.strerror or str(error)
    except (ValueError, RecursionError) as error:
        return {}, str(error)
    if not isinstance(config, dict):
        return {}, f"expected a JSON object; got {type(config).__name__}"
    return {str(name): value for name, value in config.items()}, None


def steps_planned(config: Mapping[str, Any], last_row: Mapping[str, Any]) -> int | None:
    """Steps that the run is to have, as its last row says, or its options do."""
    done, fraction = (
        number(last_row.get("progress/batch")),
        number(last_row.get("progress/done_frac")),
    )
    if done is not None and fraction:
        return round((done + 1) / fraction)
    most = config.get("max_steps")
    return most if isinstance(most, int) else None


def run_state(
    folder: Path, steps_done: int, planned: int | None, last_mark: Span | None
) -> RunState:
    """Whether a process writes here now, and if not, how it ended.

    Nothing is locked to find out: that would keep a run from starting.

    Args:
        folder: The run's.
        steps_done: Steps that are committed.
        planned: Steps of the whole run, if that is known.
        last_mark: What its timeline says last of the run as a whole.
    """
    is_locked = _is_locked(folder / LOCK_FILE)
    if is_locked:
        return "running"
    if (planned and steps_done >= planned) or (folder / SUMMARY_FILE).is_file():
        return "complete"
    if is_locked is None:
        return "unknown"
    if last_mark is None:
        return "stopped"
    facts = last_mark.facts or {}
    if last_mark.name == "start":
        return "killed"
    if "error" in facts:
        return "failed"
    return "interrupted" if facts.get("interrupted") else "stopped"


def _is_locked(path: Path) -> bool | None:
    """Whether a process of this machine holds the lock; None where nobody can tell."""
    try:
        inode = os.stat(path).st_ino
        locks = _LOCKS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = (line.split() for line in locks.splitlines())
    return any("FLOCK" in f and any(x.endswith(f":{inode}") for x in f) for f in fields)


def older_journals(path: Path) -> list[Path]:
    """Journals beside one, that were put aside before it when the options changed, oldest first."""
    stem, suffix = JOURNAL_FILE.split(".")
    numbers = {
        file: int(match[1])
        for file in path.parent.glob(f"{stem}.*.{suffix}")
        if (match := re.fullmatch(rf"{stem}\.(\d+)\.{suffix}", file.name))
    }
    before = numbers.get(path)
    older = [file for file, number in numbers.items() if before is None or number < before]
    return sorted(older, key=numbers.__getitem__)


def updated_at(folder: Path) -> float | None:
    """When the run last wrote, in seconds since the epoch."""
    return _latest(folder, (*_SHOWN, CHECKPOINTS_FILE))


def configured_at(folder: Path) -> float | None:
    """When the run's last start wrote its options, in seconds since the epoch."""
    return _latest(folder, (CONFIG_FILE,))


def _latest(folder: Path, names: tuple[str, ...]) -> float | None:
    times: list[float] = []
    for name in names:
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times, default=None)
