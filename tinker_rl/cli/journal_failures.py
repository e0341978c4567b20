"""Which groups of a run failed, why, and what that cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
from rich.console import Console
from rich.table import Table

from tinker_rl.cli.journal_tables import print_line, print_table, table
from tinker_rl.rl.failure_counts import FailureCounts
from tinker_rl.rl.journal import Journal
from tinker_rl.rl.outcomes import (
    DroppedGroup,
    EnvFailure,
    Failure,
    GroupOutcome,
    RolledOutGroup,
)
from tinker_rl.words import counted

__all__ = ["Status", "show_failures", "statuses", "wasted_tokens"]

Status: TypeAlias = Literal[
    "dropped",
    "to be tried again",
    "tried again later: finished",
    "tried again later: trained",
    "kept",
]
"""What became of a group that failed: `dropped` with its batch; in no batch yet, so that a restart
tries it; whole when it was tried again; kept although attempts at its episodes failed."""


_FINISHED: Status = "tried again later: finished"
_TRAINED: Status = "tried again later: trained"


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    group: int
    status: Status
    members: str
    num_attempts: int
    """Those that failed, of every time that the group was tried."""
    num_wasted_tokens: int
    failure: Failure
    """The newest."""
    causes: tuple[str, ...]


def statuses(journal: Journal) -> Mapping[int, Status]:
    """Of each group that failed or lost attempts, by number, what became of it."""
    failed, heads = {failure.group for failure in journal.failures}, journal.heads
    trained = journal.trained_groups()
    found: dict[int, Status] = {}
    for number in sorted(failed | heads.keys()):
        head = heads.get(number)
        if head is None:
            found[number] = "to be tried again"
        elif head.kind == "dropped":
            found[number] = "dropped"
        elif number in failed:
            is_trained = number in trained
            found[number] = _TRAINED if is_trained else _FINISHED
        elif head.num_failures:
            found[number] = "kept"
    return found


def wasted_tokens(journal: Journal) -> Mapping[int, int]:
    """Of each group that was dropped, the tokens that were sampled for it in vain, all tries."""
    wasted: defaultdict[int, int] = defaultdict(int)
    for failure in journal.failures:
        wasted[failure.group] += failure.outcome.num_sampled_tokens
    for number, head in journal.heads.items():
        if head.kind == "dropped" and number not in wasted:  # by a version that noted it once
            wasted[number] = head.num_sampled_tokens
    return wasted


def show_failures(journal: Journal, console: Console) -> None:
    """Print how many groups failed and of what, then a line for each of them."""
    rows = list(_rows(journal))
    num_groups = sum(head.kind != "none" for head in journal.heads.values())
    num_groups += sum(row.status == "to be tried again" for row in rows)
    for line in _summary(rows, num_groups):
        print_line(line, console)
    if rows:
        console.print()
        print_table(_table(rows), console)


def _table(rows: Sequence[_Row]) -> Table:
    shown = table("group", "outcome", "member", "attempts", "wasted", "failure")
    for row in rows:
        shown.add_row(
            str(row.group),
            row.status,
            row.members,
            str(row.num_attempts),
            counted(row.num_wasted_tokens, "token"),
            "; ".join(row.causes),
        )
    return shown


def _summary(rows: Sequence[_Row], num_groups: int) -> Iterator[str]:
    failed = [row for row in rows if row.status in ("dropped", "to be tried again")]
    if not failed:
        yield "no group failed" if not rows else "no group failed for good"
    else:
        yield from _causes(f"{len(failed)} of {counted(num_groups, 'group')} failed:", failed)
    became = Counter(row.status.partition(":")[0] for row in rows)
    if number := became["to be tried again"]:
        whose = "its batch has" if number == 1 else "their batches have"
        yield f"{counted(number, 'group')} to be tried again by a restart: {whose} not trained"
    if number := became["tried again later"]:
        yield f"{counted(number, 'group')} finished when tried again later"
    if number := became["kept"]:
        yield f"{counted(number, 'group')} kept after failed attempts"


def _causes(title: str, rows: Sequence[_Row]) -> Iterator[str]:
    """On one line if there is one."""
    counts = FailureCounts()
    for row in rows:
        counts.add(row.failure)
    lines = counts.lines(_cause)
    yield from [f"{title} {lines[0]}"] if len(lines) == 1 else [title, *(f"  {x}" for x in lines)]


def _rows(journal: Journal) -> Iterator[_Row]:
    tries: defaultdict[int, list[DroppedGroup]] = defaultdict(list)
    for failure in journal.failures:
        tries[failure.group].append(failure.outcome)
    for number, status in statuses(journal).items():
        kept = _finished(journal, number)
        if isinstance(kept, DroppedGroup):
            yield _row(number, status, tries[number] or [kept], None)
        else:
            yield _row(number, status, tries[number], kept)


def _finished(journal: Journal, number: int) -> GroupOutcome | None:
    """What was made of a group at last, where that has to do with failures."""
    head = journal.heads.get(number)
    if head is None or not (head.kind == "dropped" or head.num_failures):
        return None
    return journal.read_group(number).outcome


def _row(
    number: int, status: Status, dropped: Sequence[DroppedGroup], kept: RolledOutGroup | None
) -> _Row:
    attempts = kept.failures if kept is not None else ()
    last = list(dropped[-1:]) or list(attempts)  # both have a member and a failure
    wasted = sum(outcome.num_sampled_tokens for outcome in dropped)
    return _Row(
        group=number,
        status=status,
        members=", ".join(dict.fromkeys(_member(failed.member) for failed in last)),
        num_attempts=sum(max(1, len(d.failures)) for d in dropped) + len(attempts),
        num_wasted_tokens=wasted + (_num_unused_tokens(kept) if kept is not None else 0),
        failure=last[0].failure,
        causes=tuple(dict.fromkeys(_cause(failed.failure) for failed in last)),
    )


def _num_unused_tokens(kept: RolledOutGroup) -> int:
    """Tokens of a group that are in none of its episodes."""
    turns = (turn for episode in kept.group.trajectories_G for turn in episode.transitions)
    return max(0, kept.num_sampled_tokens - sum(len(turn.ac.tokens) for turn in turns))


def _member(member: int | None) -> str:
    return "all" if member is None else str(member)


def _cause(failure: Failure) -> str:
    """A failure in one line, whatever its error said: equal ones are counted together."""
    at = f" ({failure.location})" if isinstance(failure, EnvFailure) and failure.location else ""
    return " ".join(f"{failure.error_type} in {failure.where}{at}: {failure.error}".split())
