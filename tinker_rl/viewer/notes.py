"""What a run's page has to say of itself: what is missing, what was left out, and why."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from tinker_rl.rl.journal import JOURNAL_FILE
from tinker_rl.rl.log_dir import METRICS_FILE
from tinker_rl.rl.timeline import TIMELINE_FILE
from tinker_rl.viewer.plain import text
from tinker_rl.viewer.timeline import MOST_TURNS
from tinker_rl.words import counted

if TYPE_CHECKING:
    from tinker_rl.viewer.reader import RunReader

__all__ = ["notes_of"]


def notes_of(run: RunReader, left_out: Collection[int]) -> list[str]:
    """The notes of a run, one sentence or two each."""
    return [text(note) for note in (*_files(run), *_journal(run), *_left_out(run, left_out))]


def _files(run: RunReader) -> Iterator[str]:
    unreadable = run.unreadable
    yield from (f"{name} cannot be read: {why}." for name, why in unreadable.items())
    if not run.rows.exists:
        if METRICS_FILE not in unreadable:
            yield f"There is no {METRICS_FILE}: no curves."
    elif run.rows.num_bad:
        yield _passed_over(run.rows.num_bad, METRICS_FILE)
    if run.num_voided_rows:
        yield (
            f"{METRICS_FILE} goes back {counted(run.num_voided_rows, 'step')} where the run was "
            "started again: what came last is shown."
        )
    if not run.spans_file.exists:
        if TIMELINE_FILE not in unreadable:
            yield f"There is no {TIMELINE_FILE}: no timeline. Runs of earlier versions wrote none."
    elif run.spans_file.num_bad:
        yield _passed_over(run.spans_file.num_bad, TIMELINE_FILE)
    if not run.spans.has_all_turns:
        yield (
            f"The timeline has {run.spans.num_turns} turns of episodes, more than {MOST_TURNS}: it "
            "shows groups only. --trace writes all of them, for Perfetto."
        )


def _passed_over(num_bad: int, name: str) -> str:
    return (
        f"Passed over in {name}: {counted(num_bad, 'line')} that no JSON object can be read from."
    )


def _journal(run: RunReader) -> Iterator[str]:
    journal = run.journal
    if not journal.exists and not journal.problems:
        yield f"There is no {journal.path.name}: no episodes. Only reinforcement learning has one."
        return
    yield from (f"The journal could not be read to its end. {why}" for why in journal.problems)
    yield from _lost(run)
    if run.tokens_note:
        yield run.tokens_note[:1].upper() + run.tokens_note[1:]
    if journal.num_committed and not journal.has_trained_tokens:
        yield (
            "The journal does not say what the learner made of each token, as it was written by "
            "an earlier version: ratios and advantages of single tokens are not known."
        )
    if older := run.older_journals:
        files = " ".join(shlex.quote(str(path)) for path in older)
        yield (
            f"Groups from before the options changed are in other journals than {journal.path.name}"
            f": python -m tinker_rl view {files} shows them."
        )


def _lost(run: RunReader) -> Iterator[str]:
    """An end of the journal that no kill leaves: a step is in there before it is in the metrics."""
    journal = run.journal
    if journal.problems or journal.path.name != JOURNAL_FILE or run.state == "running":
        return
    if journal.last_step < 0 and run.older_journals:
        return  # the steps are in those: this one has yet to begin
    name = journal.path.name
    torn = counted(journal.num_torn_bytes, "byte")
    tail = f" Its last {torn} are no whole record." if journal.num_torn_bytes else ""
    if journal.last_step < run.last_step:
        ends = f"ends at step {journal.last_step}" if journal.last_step >= 0 else "has no step"
        yield (
            f"{name} {ends}, though {METRICS_FILE} goes to step {run.last_step}: what came after "
            "it is lost. Episodes of later steps are missing, or are shown without a step."
            f"{tail} {_what_to_do(run)}"
        )
    elif tail and run.has_ended_well:
        yield f"{name} was cut or written over after the run had ended.{tail} {_what_to_do(run)}"


def _what_to_do(run: RunReader) -> str:
    folder = shlex.quote(str(run.folder))
    return (
        "Put back a copy of it if there is one: "
        f"python -m tinker_rl journal {folder} says what is left."
    )


def _left_out(run: RunReader, left_out: Collection[int]) -> Iterator[str]:
    if left_out:
        groups = run.journal.groups
        num_groups = sum(run.journal.chunk_of(group) in left_out for group in groups)
        yield (
            f"The text of {num_groups} of {len(groups)} groups is left out, as the page would be "
            "too large: the list has all episodes. A higher --max-mb keeps more, and "
            f"python -m tinker_rl view {shlex.quote(str(run.folder))} --serve shows all."
        )
