"""`python -m tinker_rl journal`: what a run did, from its journal. Changes nothing, but for --cut.

    python -m tinker_rl journal RUN
    python -m tinker_rl journal RUN --group 7
    python -m tinker_rl journal RUN --failed
    python -m tinker_rl journal RUN --step 12
    python -m tinker_rl journal RUN --cut 123456

RUN is the run's folder, or its `journal.bin`. Options may also be written as `group=7`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from rich.console import Console
from rich.text import Text

from tinker_rl.cli.journal_report import show_failures, show_summary
from tinker_rl.cli.journal_step import show_step
from tinker_rl.errors import ConfigError, JournalError, TinkerRLError
from tinker_rl.rl.error_budget import describe_failure
from tinker_rl.rl.journal import JOURNAL_FILE, Journal, cut_journal
from tinker_rl.rl.log_dir import CONFIG_FILE, lock_log_dir
from tinker_rl.rl.transcripts import Decoder, transcript

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
        help="list groups that failed, were cut short or tried again",
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
            _show_group(journal, options.group, console)
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
    console.print(Text(f"cut off {cut.num_bytes} bytes at offset {offset}; as it was: {cut.copy}"))


def _show_group(journal: Journal, number: int, console: Console) -> None:
    finished = journal.finished_groups()
    if number not in finished:
        numbers = f"{min(finished)} to {max(finished)}" if finished else "none yet"
        raise JournalError(
            f"journal: expected a finished group ({numbers}); got {number}, which is not in "
            f"{journal.path}."
        )
    record = journal.read_group(number)
    steps = {group: commit.step for commit in journal.commits for group in commit.groups}
    step = steps.get(number)
    trained = "not trained yet" if step is None else f"trained in step {step}"
    console.print(f"group {number}, began with version {record.policy_version}, {trained}")
    if record.outcome is None:
        console.print("the dataset has no group of this number")
        return
    for attempt in record.outcome.failures:
        what = f"member {attempt.member}, attempt {attempt.attempt} failed: "
        console.print(Text(what + describe_failure(attempt.failure)))
    # Not through the console: the text may be wider than it, and is to be read as it is.
    console.file.write("\n" + transcript(step, number, record.outcome, _tokenizer(journal.path)))


def _tokenizer(path: Path) -> Decoder:
    """That of the run's model; one that shows token ids where it cannot be had."""
    try:
        config: Any = json.loads((path.parent / CONFIG_FILE).read_text(encoding="utf-8"))
        from tinker_rl.tokenizers import get_tokenizer

        return get_tokenizer(config["model_name"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(f"token ids are shown, since there is no tokenizer: {error}", file=sys.stderr)
        return _TokenIds()


class _TokenIds:
    def decode(self, token_ids: list[int], /) -> str:
        return " ".join(map(str, token_ids))
