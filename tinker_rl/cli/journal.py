"""`python -m tinker_rl journal`: what a run did, from its journal. Changes nothing, but for --cut.

    python -m tinker_rl journal RUN
    python -m tinker_rl journal RUN --group 7
    python -m tinker_rl journal RUN --failed
    python -m tinker_rl journal RUN --step 12
    python -m tinker_rl journal RUN --cut 123456

RUN is the run's folder, or its `journal.bin`, or a `journal.1.bin` that was put aside when the
options changed. Options may also be written as `group=7`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console
from rich.text import Text

from tinker_rl.cli.journal_failures import show_failures
from tinker_rl.cli.journal_group import show_group
from tinker_rl.cli.journal_report import show_summary
from tinker_rl.cli.journal_step import show_step
from tinker_rl.cli.journal_tables import print_line
from tinker_rl.errors import ConfigError, TinkerRLError
from tinker_rl.rl.journal import JOURNAL_FILE, Journal, cut_journal
from tinker_rl.rl.log_dir import lock_log_dir
from tinker_rl.words import counted

__all__ = ["Options", "run"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line."""

    run: Path
    group: int | None = None
    failed: bool = False
    step: int | None = None
    cut: int | None = None


def run() -> None:
    """Run the command.

    Leaves with 1 after an error, which is said without a traceback, and where a step that was
    trained again differs.
    """
    try:
        status = _main(_parse(sys.argv[1:]), Console(highlight=False))
        sys.stdout.flush()
        if status:
            sys.exit(status)
    except BrokenPipeError:  # who reads has read enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (TinkerRLError, OSError) as error:
        errors = Console(stderr=True, highlight=False, soft_wrap=True)
        errors.print("[red]error[/]:", Text(str(error)))
        sys.exit(1)


class _Parser(argparse.ArgumentParser):
    """One whose errors are the package's."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"journal: {message}. --help lists what there is.")


def _parse(arguments: list[str]) -> Options:
    parser = _Parser(
        prog="python -m tinker_rl journal",
        description="What a run of reinforcement learning did, from its journal.",
        epilog="Options may also be written as group=7.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help=f"the run's folder, or its {JOURNAL_FILE}")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--group", type=int, metavar="N", help="show the transcript of group N")
    what.add_argument(
        "--failed",
        action="store_true",
        help="list groups that were dropped or had failed attempts: why, and at what cost",
    )
    what.add_argument(
        "--step",
        type=int,
        metavar="N",
        help="train step N again, from the newest checkpoint before it, and compare the numbers",
    )
    what.add_argument(
        "--cut",
        type=int,
        metavar="OFFSET",
        help="cut off the record at OFFSET and all after it; keeps a copy of the file",
    )
    dashed = (re.sub(r"^(group|step|cut)=", r"--\1=", argument) for argument in arguments)
    return Options(**vars(parser.parse_args(list(dashed))))


def _main(options: Options, console: Console) -> int:
    """Do what was asked for, and give the exit status."""
    path = _journal_of(options.run)
    if options.cut is not None:
        _cut(path, options.cut, console)
        return 0
    with Journal.read(path) as journal:
        if options.step is not None:
            return show_step(journal, options.step, console)
        if options.group is not None:
            show_group(journal, options.group, console)
        elif options.failed:
            show_failures(journal, console)
        else:
            show_summary(journal, console)
    return 0


def _journal_of(run: Path) -> Path:
    path = run.expanduser()
    path = path / JOURNAL_FILE if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(
            f"journal: expected a run's folder, with a {JOURNAL_FILE}, or that file; got {run}. "
            "The folder is the run's log_path."
        )
    return path


def _cut(path: Path, offset: int, console: Console) -> None:
    with lock_log_dir(path.parent):
        cut = cut_journal(path, offset)
    num_bytes = counted(cut.num_bytes, "byte")
    print_line(f"cut off {num_bytes} at offset {offset}; as it was: {cut.copy}", console)
