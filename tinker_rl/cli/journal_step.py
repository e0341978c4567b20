"""A step of a run, trained once more from its journal and checkpoint: do the numbers agree?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from tinker_rl.cli.journal_model import Beginning, find_beginning, open_model
from tinker_rl.cli.journal_numbers import (
    Comparison,
    Verdict,
    compare_hashes,
    compare_metrics,
    comparison_table,
    overall,
)
from tinker_rl.cli.journal_older import how_to_read_older
from tinker_rl.cli.journal_report import ranges
from tinker_rl.cli.journal_tables import print_line, print_table
from tinker_rl.errors import JournalError
from tinker_rl.rl.interrupts import only_error, watch_signals
from tinker_rl.rl.journal import CommitRecord, Journal
from tinker_rl.rl.replay import commits_to_replay, recompute_step, weight_hash

if TYPE_CHECKING:
    from tinker_rl.clients import TrainingClient

__all__ = ["show_step"]

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended."""


def show_step(journal: Journal, step: int, console: Console) -> int:
    """Train a step once more, and print its numbers beside the recorded ones.

    The run's folder, its checkpoints and the store are only read. Ctrl-C stops it.

    Returns:
        Exit status: 0 if all numbers agree, bit for bit or to `TOLERANCE`; 1 if one differs or
        there is none; 130 if it was stopped.
    Raises:
        JournalError: if there is no such step, or it cannot be replayed.
        CheckpointError: if the run's checkpoints are gone.
    """
    commit = _committed(journal, step)
    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    return anyio.run(_Rerun(journal, commit, console, messages).run, backend="trio")


def _committed(journal: Journal, step: int) -> CommitRecord:
    for commit in journal.commits:
        if commit.step == step:
            return commit
    known = ranges(commit.step for commit in journal.commits) or "none yet"
    older = how_to_read_older(journal.path)
    raise JournalError(
        f"journal: expected a committed step ({known}); got {step}, which is not in "
        f"{journal.path}. Steps count from 0: what the console calls step {step + 1} is step "
        f"{step} here.{older and ' ' + older}"
    )


class _Findings(msgspec.Struct, frozen=True, kw_only=True):
    comparisons: Sequence[Comparison]
    """Of the step that was asked for."""
    first_different: int | None
    """The first step on the way whose numbers differ."""

    @property
    def verdict(self) -> Verdict:
        return overall(self.comparisons)


class _Rerun:
    """One step, from finding its weights to printing the numbers."""

    def __init__(
        self, journal: Journal, commit: CommitRecord, console: Console, messages: Console
    ) -> None:
        self._journal = journal
        self._log_dir: Path = journal.path.parent
        self._commit = commit
        self._console = console
        self._messages = messages

    async def run(self) -> int:
        """Do it, until Ctrl-C; gives the exit status. Cancelled, nothing is left behind."""
        status: int | None = None
        work = anyio.CancelScope()
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(watch_signals, work.cancel)
                with work:
                    status = await self._show()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only_error(group) from None
        if status is None:
            self._say("stopped; nothing was changed")
            return INTERRUPTED
        return status

    async def _show(self) -> int:
        step = self._commit.step
        find = anyio.to_thread.run_sync
        beginning = await find(find_beginning, self._log_dir, step, self._say)
        commits = commits_to_replay(self._journal, step, beginning.version)
        self._say(
            f"from {beginning.description}, training on steps {ranges(c.step for c in commits)} ..."
        )
        findings = await self._compute(beginning, commits)
        print_line(self._title(beginning), self._console)
        print_table(comparison_table(findings.comparisons), self._console)
        print_line("\n" + self._conclusion(findings), self._console)
        if older := how_to_read_older(self._journal.path):
            self._say(older)
        return 0 if findings.verdict in ("agrees bit for bit", "agrees to 1e-5") else 1

    async def _compute(self, beginning: Beginning, commits: Sequence[CommitRecord]) -> _Findings:
        first_different: int | None = None
        comparisons: list[Comparison] = []
        with self._progress() as progress:
            task = progress.add_task("loading the model", total=len(commits))
            async with open_model(self._log_dir, beginning) as model:
                for commit in commits:
                    progress.update(task, description=f"step {commit.step}")
                    comparisons = await self._compare(model, commit)
                    if first_different is None and overall(comparisons) == "differs":
                        first_different = commit.step
                    progress.advance(task)
                progress.update(task, description="hashing the weights")
                hashed = await weight_hash(model)
        comparisons.append(compare_hashes(self._commit.weight_hash, hashed, comparisons))
        return _Findings(comparisons=comparisons, first_different=first_different)

    async def _compare(self, model: TrainingClient, commit: CommitRecord) -> list[Comparison]:
        recomputed = await recompute_step(model, self._journal, commit)
        return compare_metrics(commit.metrics, recomputed.metrics)

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            console=self._messages,
            transient=True,
            disable=not self._messages.is_terminal,
        )

    def _title(self, beginning: Beginning) -> str:
        commit, replayed = self._commit, self._commit.step - beginning.version
        return (
            f"step {commit.step}, groups {ranges(commit.groups) or 'none'}, trained again from "
            f"{beginning.description} and {replayed} {'step' if replayed == 1 else 'steps'} "
            "of the journal\n"
        )

    def _conclusion(self, findings: _Findings) -> str:
        step = f"step {self._commit.step}"
        match findings.verdict:
            case "agrees bit for bit":
                return f"{step} agrees bit for bit"
            case "not compared":
                return f"{step} wrote down nothing to compare with"
            case "differs":
                names = [row.name for row in findings.comparisons if row.verdict == "differs"]
                return f"{step} differs in {', '.join(names)}{self._since(findings)}"
            case _:
                return (
                    f"{step} agrees to 1e-5: the numbers differ by rounding, as they do on another "
                    "device or with another number of threads (OMP_NUM_THREADS)"
                )

    def _since(self, findings: _Findings) -> str:
        first = findings.first_different
        if first is None:
            return ", and in no number: the weights were changed by something else"
        return "" if first == self._commit.step else f"; the first step that does is {first}"

    def _say(self, text: str) -> None:
        self._messages.print(Text(text))
