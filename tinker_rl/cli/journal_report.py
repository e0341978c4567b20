"""What a journal says, in tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinker_rl.rl.error_budget import describe_failure
from tinker_rl.rl.journal import CommitRecord, GroupHead, Journal
from tinker_rl.rl.outcomes import DroppedGroup, RolledOutGroup

__all__ = ["ranges", "show_failures", "show_summary"]

HASH_LENGTH = 8


def show_summary(journal: Journal, console: Console) -> None:
    """Print the run's figures, its steps, and the groups that wait to be trained on."""
    console.print(_grid(_figures(journal)))
    if journal.commits:
        console.print("\n[bold]steps[/]")
        console.print(_commits(journal.commits))
    waiting = _waiting(journal)
    if waiting:
        console.print("\n[bold]groups that wait to be trained on[/]")
        console.print(_groups(journal, waiting))


def show_failures(journal: Journal, console: Console) -> None:
    """Print which groups were dropped or had episodes that failed, why, and what that cost."""
    heads = journal.heads.values()
    numbers = [head.group for head in heads if head.kind == "dropped" or head.num_failures]
    if not numbers:
        console.print("no group failed")
        return
    table = _table("group", "outcome", "member", "attempt", "failure", "tokens wasted")
    causes: Counter[str] = Counter()
    for number in sorted(numbers):
        outcome = journal.read_group(number).outcome
        assert outcome is not None
        for row in _failure_rows(number, outcome):
            table.add_row(*map(Text, row))
        if isinstance(outcome, DroppedGroup):
            causes[describe_failure(outcome.failure)] += 1
    console.print(table)
    if causes:
        console.print(f"\n[bold]{causes.total()} groups dropped[/]")
    for cause, count in causes.most_common():
        console.print(Text(f"  {count} x {cause}"))


def _failure_rows(
    number: int, outcome: RolledOutGroup | DroppedGroup
) -> Iterator[tuple[str, str, str, str, str, str]]:
    is_dropped = isinstance(outcome, DroppedGroup)
    if is_dropped:
        why, tokens = describe_failure(outcome.failure), str(outcome.num_sampled_tokens)
        yield str(number), "dropped", _member(outcome.member), "", why, tokens
    for failed in outcome.failures:
        if is_dropped and failed.failure == outcome.failure and failed.member == outcome.member:
            continue
        kind = "" if is_dropped else "kept"
        why, attempt = describe_failure(failed.failure), str(failed.attempt)
        yield str(number), kind, _member(failed.member), attempt, why, ""


def _member(member: int | None) -> str:
    return "all" if member is None else str(member)


# -------------------------------------------------------------------------------------- summary


def _figures(journal: Journal) -> Iterator[tuple[str, str]]:
    commits, heads = journal.commits, journal.heads.values()
    kinds = Counter(head.kind for head in heads)
    size = journal.path.stat().st_size
    yield "journal", f"{journal.path}, {size} bytes"
    last = f", the last makes version {commits[-1].step + 1}" if commits else ""
    yield "steps", f"{len(commits)}{last}"
    if commits:
        yield "acting", f"version {commits[-1].acting_version}"
    trained = len(journal.trained_groups())
    yield (
        "groups",
        f"{len(heads)} finished: {trained} trained, {len(heads) - trained} waiting; "
        f"{kinds['dropped']} dropped (--failed says why), {kinds['none']} empty",
    )
    yield "sampled", _tokens(heads)
    yield "starts", ", ".join(f"from version {start.version}" for start in journal.starts) or "none"
    for evaluation in journal.evaluations[-1:]:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in evaluation.metrics.items())
        yield "evaluated", f"version {evaluation.version}: {numbers}"
    if journal.torn:
        yield (
            "torn",
            f"{journal.torn.num_bytes} bytes at offset {journal.torn.offset}, of a record that was "
            "or is being written; the next start cuts them off",
        )


def _tokens(heads: Iterable[GroupHead]) -> str:
    sampled = sum(head.num_sampled_tokens for head in heads)
    wasted = sum(head.num_sampled_tokens for head in heads if head.kind == "dropped")
    return f"{sampled} tokens, {wasted} of them for groups that were dropped"


def _commits(commits: Iterable[CommitRecord]) -> Table:
    table = _table("step", "groups", "weights", "acting", "reward", "age", "oldest")
    for commit in commits:
        table.add_row(
            str(commit.step),
            ranges(commit.groups),
            (commit.weight_hash or "")[:HASH_LENGTH],
            str(commit.acting_version),
            _metric(commit, "env/all/reward/total", ".3f"),
            _metric(commit, "async/staleness_mean", ".2f"),
            _metric(commit, "async/staleness_max", ".0f"),
        )
    return table


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
    table = _table("group", "began with", "outcome", "episodes", "sampled", "reward")
    for head in heads:
        outcome = journal.read_group(head.group).outcome
        rewards = outcome.group.get_total_rewards() if isinstance(outcome, RolledOutGroup) else []
        table.add_row(
            str(head.group),
            f"version {head.policy_version}",
            head.kind.replace("_", " "),
            str(len(rewards)) if rewards else "",
            f"{head.num_sampled_tokens} tokens",
            f"{sum(rewards) / len(rewards):.3f}" if rewards else "",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name, "dim"), Text(value))
    return table
