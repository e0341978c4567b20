"""What a journal says, in tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table

from tinker_rl.cli.journal_failures import statuses, wasted_tokens
from tinker_rl.cli.journal_older import how_to_read_older
from tinker_rl.cli.journal_tables import figures, print_line, print_table, table
from tinker_rl.rl.journal import CommitRecord, GroupHead, Journal
from tinker_rl.rl.outcomes import RolledOutGroup
from tinker_rl.words import counted

__all__ = ["ranges", "show_summary"]

HASH_LENGTH = 8


def show_summary(journal: Journal, console: Console) -> None:
    """Print the run's figures, its steps, and the groups that wait to be trained on."""
    print_table(figures(_figures(journal)), console)
    if older := how_to_read_older(journal.path):
        print_line(f"\n{older}", console)
    if commits := journal.commits:
        last = commits[-1].step
        print_line("\nsteps", console, "bold")
        print_line(
            f"(the console counts those done: its step {last + 1} is {last} here)", console, "dim"
        )
        print_table(_commits(commits), console)
    if waiting := _waiting(journal):
        print_line("\ngroups that wait to be trained on", console, "bold")
        print_table(_groups(journal, waiting), console)


def _figures(journal: Journal) -> Iterator[tuple[str, str]]:
    commits, heads = journal.commits, journal.heads.values()
    kinds = Counter(head.kind for head in heads)
    size = journal.path.stat().st_size
    yield "journal", f"{journal.path}, {counted(size, 'byte')}"
    last = f", the last makes version {commits[-1].step + 1}" if commits else ""
    yield "steps", f"{len(commits)}{last}"
    if commits:
        yield "acting", f"version {commits[-1].acting_version}"
    empty = f"; {kinds['none']} empty" if kinds["none"] else ""
    waiting = Counter(head.kind for head in _waiting(journal))
    num_waiting, num_dropped = waiting.total(), kinds["dropped"] - waiting["dropped"]
    dropped = f", {num_dropped} dropped" if num_dropped else ""
    num_trained = len(heads) - num_waiting - num_dropped
    became = f"{num_trained} trained{dropped}, {num_waiting} waiting{empty}"
    yield "groups", f"{len(heads)} finished: {became}"
    yield "failed", _failed(journal)
    yield "sampled", _tokens(journal)
    yield "starts", ", ".join(f"from version {start.version}" for start in journal.starts) or "none"
    for evaluation in journal.evaluations[-1:]:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in evaluation.metrics.items())
        yield "evaluated", f"version {evaluation.version}: {numbers}"
    if journal.torn:
        where = f"{counted(journal.torn.num_bytes, 'byte')} at offset {journal.torn.offset}"
        what = "of a record that was or is being written; the next start cuts it off"
        yield "torn", f"{where}, {what}"


def _failed(journal: Journal) -> str:
    counts = Counter(status.partition(":")[0] for status in statuses(journal).values())
    told = ", ".join(f"{counts[status]} {what}" for status, what in _FAILED if counts[status])
    return f"{told}; --failed says why" if told else "none"


_FAILED = (
    ("dropped", "dropped"),
    ("to be tried again", "to be tried again"),
    ("tried again later", "tried again later"),
    ("kept", "kept after failed attempts"),
)


def _tokens(journal: Journal) -> str:
    kept = (head for head in journal.heads.values() if head.kind != "dropped")
    wasted = sum(wasted_tokens(journal).values())
    sampled = sum(head.num_sampled_tokens for head in kept) + wasted
    return f"{counted(sampled, 'token')}, {wasted} of them for groups that were dropped"


def _commits(commits: Iterable[CommitRecord]) -> Table:
    shown = table("step", "groups", "weights", "acting", "reward", "age", "oldest")
    for commit in commits:
        shown.add_row(
            str(commit.step),
            ranges(commit.groups),
            (commit.weight_hash or "")[:HASH_LENGTH],
            str(commit.acting_version),
            _metric(commit, "env/all/reward/total", ".3f"),
            _metric(commit, "async/staleness_mean", ".2f"),
            _metric(commit, "async/staleness_max", ".0f"),
        )
    return shown


def _metric(commit: CommitRecord, name: str, form: str) -> str:
    value = commit.metrics.get(name)
    return format(value, form) if isinstance(value, int | float) else ""


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in their order, runs of them shortened: `0-3, 7, 5-6`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def _waiting(journal: Journal) -> list[GroupHead]:
    trained = journal.trained_groups()
    return [head for number, head in sorted(journal.heads.items()) if number not in trained]


def _groups(journal: Journal, heads: Iterable[GroupHead]) -> Table:
    shown = table("group", "began with", "outcome", "episodes", "sampled", "reward")
    for head in heads:
        outcome = journal.read_group(head.group).outcome
        rewards = outcome.group.get_total_rewards() if isinstance(outcome, RolledOutGroup) else []
        shown.add_row(
            str(head.group),
            f"version {head.policy_version}",
            head.kind.replace("_", " "),
            str(len(rewards)) if rewards else "",
            counted(head.num_sampled_tokens, "token"),
            f"{sum(rewards) / len(rewards):.3f}" if rewards else "",
        )
    return shown
