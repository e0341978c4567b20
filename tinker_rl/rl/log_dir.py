"""The folder of a run: whose it is, and what a second run may do with it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import chz
import msgspec

from tinker_rl.errors import ConfigError, JournalError
from tinker_rl.policies import League
from tinker_rl.rl.checkpoints import CHECKPOINTS_FILE
from tinker_rl.rl.config import LogdirBehavior
from tinker_rl.rl.files import write_text
from tinker_rl.rl.journal import JOURNAL_FILE, Journal

__all__ = [
    "CONFIG_FILE",
    "METRICS_FILE",
    "check_log_dir",
    "config_differences",
    "dump_config",
    "lock_log_dir",
    "options_hash",
    "prepare_log_dir",
]

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
LOCK_FILE = ".lock"

RESULT_FILES = (METRICS_FILE, CHECKPOINTS_FILE)
"""What a run writes once it has something to lose."""

OURS = frozenset({"log_path", "dataset_builder", "learning_rate"})
"""Keys that tell a run's config from another program's file of that name."""

MAY_DIFFER = frozenset(
    {
        "base_url",
        "behavior_if_log_dir_exists",
        "eval_every",
        "kl_stop",
        "kl_warn",
        "log_path",
        "loggers",
        "max_concurrent_groups",
        "max_concurrent_samples",
        "max_failed_group_fraction",
        "max_steps",
        "max_weight_sync_failures",
        "num_groups_to_log",
        "on_weight_sync_error",
        "sampler_name",
        "save_every",
    }
)
"""Options that may change from one start of a run to the next: none changes what is learned,
except for how long. Another sampler draws other tokens, of the same distribution: it has to prove
that at every step."""


def dump_config(value: Any) -> Any:
    """A config as JSON takes it; callables by their qualified name."""
    if chz.is_chz(value) and not isinstance(value, type):
        fields = {name: dump_config(getattr(value, name)) for name in chz.chz_fields(value)}
        return {"type": type(value).__qualname__, **fields}
    if isinstance(value, Mapping):
        return {str(key): dump_config(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [dump_config(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, League):
        return {"type": "League", **value.options}
    if isinstance(value, msgspec.Struct):
        return dump_config(msgspec.structs.asdict(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{getattr(value, '__module__', type(value).__module__)}.{name}"


def config_differences(old: Any, new: Any, path: str = "") -> list[str]:
    """One line a difference between two dumped configs: `name: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        return [
            line
            for name in names
            if path or name not in MAY_DIFFER
            for line in config_differences(
                old.get(name, _MISSING), new.get(name, _MISSING), f"{path}.{name}" if path else name
            )
        ]
    return [] if old == new else [f"{path}: {_shown(old)} -> {_shown(new)}"]


def options_hash(config: Mapping[str, Any]) -> str:
    """Of a dumped config, without what may differ from one start to the next."""
    kept = {name: value for name, value in config.items() if name not in MAY_DIFFER}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


_MISSING = object()


def _shown(value: Any) -> str:
    return "(absent)" if value is _MISSING else json.dumps(value)


def check_log_dir(
    log_dir: Path,
    config: Mapping[str, Any],
    behavior: LogdirBehavior,
    ask: Callable[[str], str] | None = None,
) -> None:
    """Decide whether a run may use `log_dir`, and delete what is there if that was chosen.

    A folder without a run's results is fine with every behavior. One with a run of the same config
    is too, except with `raise`, which takes new ones only, and `delete`, which starts afresh.

    Args:
        log_dir: The folder.
        config: What `dump_config` gave for the run to come.
        behavior: `resume` goes on under the new config, `delete` starts afresh, `raise` refuses;
            `ask` shows the difference and asks, where there is a terminal to ask on.
        ask: Puts a question to the user; the default reads a line from the terminal.
    Raises:
        ConfigError: if the folder is another run's, or no run's, and nobody chose what to do.
    """
    if not log_dir.exists() or (log_dir.is_dir() and not any(log_dir.iterdir())):
        return
    old = _read_config(log_dir)
    if not _has_results(log_dir):
        return
    differences = config_differences(old, config)
    if behavior == "ask":
        behavior = _ask(log_dir, differences, ask) if differences else "resume"
    if behavior == "raise":
        raise ConfigError(
            f"log_path: expected a new folder; got {log_dir}, which holds a run."
            f"{_listed(differences)} {_CHOICES}"
        )
    if behavior == "delete":
        shutil.rmtree(log_dir)


def _has_results(log_dir: Path) -> bool:
    """Whether the run in the folder has something to lose."""
    if any((log_dir / name).exists() for name in RESULT_FILES):
        return True
    if not (log_dir / JOURNAL_FILE).exists():
        return False
    try:
        with Journal.read(log_dir / JOURNAL_FILE) as journal:
            return bool(journal.finished_groups())
    except JournalError:
        return True


_CHOICES = "Choose another log_path, or behavior_if_log_dir_exists=resume or delete."


def _ask(log_dir: Path, differences: list[str], ask: Callable[[str], str] | None) -> LogdirBehavior:
    if ask is None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise ConfigError(
                f"log_path: expected the folder of the same run; got {log_dir}, which holds one of "
                f"other options, and there is no terminal to ask on.{_listed(differences)} "
                f"{_CHOICES}"
            )
        ask = input
    question = (
        f"{log_dir} holds a run of other options.{_listed(differences)}\n"
        "resume (go on with the new options), delete (start afresh), or exit? "
    )
    while True:
        answer = ask(question).strip().lower()
        if answer in ("resume", "delete"):
            return answer
        if answer in ("exit", "raise", ""):
            return "raise"


def _listed(differences: list[str]) -> str:
    if not differences:
        return " Its options are the same."
    return "\n  " + "\n  ".join(differences) + "\n"


def _read_config(log_dir: Path) -> Any:
    """The config of the run in `log_dir`. Raises ConfigError if there is none."""
    try:
        config = json.loads((log_dir / CONFIG_FILE).read_text(encoding="utf-8"))
        if config.keys() >= OURS:
            return config
    except (OSError, ValueError, AttributeError):
        pass
    raise ConfigError(
        f"log_path: expected a folder that is new, empty or a run's; got {log_dir}, which has no "
        f"{CONFIG_FILE} of a run. Choose another; this one is left as it is."
    )


@contextmanager
def lock_log_dir(log_dir: Path) -> Generator[None]:
    """Keep a second process from writing into the same folder; the end of a process unlocks it.

    Raises:
        ConfigError: if another run is writing there now.
    """
    with (log_dir / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"log_path: expected a folder that no other process writes into; got {log_dir}, "
                "where a run is under way. Wait for its end, stop it, or choose another folder."
            ) from error
        yield


def prepare_log_dir(log_dir: Path, config: Mapping[str, Any]) -> None:
    """Make the folder, and say in it whose it is."""
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"log_path: expected a folder that can be made; got {log_dir} ({error.strerror}). "
            "Choose another."
        ) from error
    write_text(log_dir / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
