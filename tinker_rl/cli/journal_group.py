"""One group of a journal: its text, and what failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from tinker_rl.cli.journal_older import how_to_read_older
from tinker_rl.cli.journal_tables import print_line
from tinker_rl.errors import JournalError
from tinker_rl.rl.failure_counts import describe_failure
from tinker_rl.rl.journal import FailureRecord, Journal
from tinker_rl.rl.log_dir import CONFIG_FILE
from tinker_rl.rl.outcomes import DroppedGroup, GroupOutcome
from tinker_rl.rl.transcripts import Decoder, transcript

__all__ = ["show_group"]


def show_group(journal: Journal, number: int, console: Console) -> None:
    """Print the transcript of a group, or why it failed.

    Raises:
        JournalError: if the journal does not know it.
    """
    failed = [failure for failure in journal.failures if failure.group == number]
    if number in journal.finished_groups():
        _show_finished(journal, number, failed, console)
    elif failed:
        last = failed[-1]
        how = "dropped before its batch trained: a restart tries it again"
        print_line(_title(number, last.policy_version, how), console)
        _show_earlier(failed[:-1], console)
        _show_outcome(journal, None, number, last.outcome, console)
    else:
        raise _unknown(journal, number)


def _show_finished(
    journal: Journal, number: int, failed: list[FailureRecord], console: Console
) -> None:
    record = journal.read_group(number)
    steps = {group: commit.step for commit in journal.commits for group in commit.groups}
    step = steps.get(number)
    is_dropped = isinstance(record.outcome, DroppedGroup)
    did = "left out of" if is_dropped else "trained in"
    trained = "not trained yet" if step is None else f"{did} step {step}"
    print_line(_title(number, record.policy_version, trained), console)
    if record.outcome is None:
        print_line("the dataset has no group of this number", console)
        return
    _show_earlier([f for f in failed if f.outcome != record.outcome], console)
    _show_outcome(journal, step, number, record.outcome, console)


def _title(number: int, version: int, what: str) -> str:
    return f"group {number}, began with version {version}, {what}"


def _show_earlier(failures: list[FailureRecord], console: Console) -> None:
    for failure in failures:
        why = describe_failure(failure.outcome.failure)
        print_line(f"dropped, and tried again later: {why}", console)


def _show_outcome(
    journal: Journal, step: int | None, number: int, outcome: GroupOutcome, console: Console
) -> None:
    for attempt in outcome.failures:
        who = "the group" if attempt.member is None else f"member {attempt.member}"
        why = describe_failure(attempt.failure)
        print_line(f"{who}, attempt {attempt.attempt} failed: {why}", console)
    # Not through the console: the text may be wider than it, and is to be read as it is.
    console.file.write("\n" + transcript(step, number, outcome, _tokenizer(journal.path)))


def _unknown(journal: Journal, number: int) -> JournalError:
    known = journal.finished_groups() | {failure.group for failure in journal.failures}
    numbers = f"{min(known)} to {max(known)}" if known else "none yet"
    older = how_to_read_older(journal.path)
    return JournalError(
        f"journal: expected a group that finished or failed ({numbers}); got {number}, which is "
        f"not in {journal.path}.{older and ' ' + older}"
    )


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
