"""What a journal says, without the tokens: which groups are there, and which batches they trained.

Plain state, safe to use from several threads; it knows nothing of files.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from tinker_rl.rl.journal.codec import GroupHead, Head, TrainedHead
from tinker_rl.rl.journal.records import (
    CommitRecord,
    EvaluationRecord,
    FailureRecord,
    StartRecord,
)

__all__ = ["JournalIndex"]


class JournalIndex:
    """The records of a journal, in order, each with the offset where it lies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: dict[int, int] = {}
        self._heads: dict[int, GroupHead] = {}
        self._commits: dict[int, CommitRecord] = {}
        self._steps: dict[int, int] = {}
        """Of each trained group, the step of the commit that holds it."""
        self._trained: dict[int, int] = {}
        """Offset of what the learner said of each step."""
        self._starts: list[StartRecord] = []
        self._evaluations: list[EvaluationRecord] = []
        self._failures: list[FailureRecord] = []

    @property
    def groups(self) -> Mapping[int, int]:
        """Offset of each finished group, as of now."""
        with self._lock:
            return dict(self._offsets)

    @property
    def heads(self) -> Mapping[int, GroupHead]:
        """What is known of each finished group without its tokens, as of now."""
        with self._lock:
            return dict(self._heads)

    @property
    def commits(self) -> tuple[CommitRecord, ...]:
        """Commits that hold, by step: no start went behind them, no later one has their step."""
        with self._lock:
            return tuple(self._commits[step] for step in sorted(self._commits))

    @property
    def starts(self) -> tuple[StartRecord, ...]:
        """Starts of the run, oldest first."""
        with self._lock:
            return tuple(self._starts)

    @property
    def evaluations(self) -> tuple[EvaluationRecord, ...]:
        """Evaluations, oldest first."""
        with self._lock:
            return tuple(self._evaluations)

    @property
    def failures(self) -> tuple[FailureRecord, ...]:
        """Every time that a group was dropped, oldest first; it may be finished since then."""
        with self._lock:
            return tuple(self._failures)

    def finished_groups(self) -> frozenset[int]:
        """Numbers of the groups that are there."""
        with self._lock:
            return frozenset(self._offsets)

    def trained_groups(self) -> frozenset[int]:
        """Numbers of the groups of the commits that hold."""
        with self._lock:
            return frozenset(self._steps)

    def _offset_of(self, group: int) -> int | None:
        """Where a group lies; None if it is not there."""
        with self._lock:
            return self._offsets.get(group)

    def _offset_of_trained(self, step: int) -> int | None:
        """Where that lies which the learner said of a step; None if it is not there."""
        with self._lock:
            return self._trained.get(step) if step in self._commits else None

    def _problem(self, record: Head) -> str | None:
        """Why a record cannot follow those that are here; None if it can."""
        with self._lock:
            if isinstance(record, GroupHead):
                known = self._offsets.get(record.group)
                if known is not None:
                    return f"expected a new group; got {record.group}, which is at offset {known}"
            elif isinstance(record, CommitRecord):
                return self._problem_of_commit(record)
            return None

    def _problem_of_commit(self, commit: CommitRecord) -> str | None:
        for group in commit.groups:
            if group not in self._offsets:
                return (
                    f"expected step {commit.step} to train groups of the journal; got {group}, "
                    "which is not in it"
                )
            step = self._steps.get(group, commit.step)
            if step != commit.step:
                return (
                    f"expected step {commit.step} to train each group once; got {group}, which "
                    f"step {step} trained"
                )
        if len(set(commit.groups)) != len(commit.groups):
            return f"expected step {commit.step} to train each group once; got {commit.groups}"
        return None

    def _add(self, record: Head, offset: int) -> None:
        """Take in a record of which `_problem` says nothing."""
        with self._lock:
            if isinstance(record, GroupHead):
                self._offsets[record.group] = offset
                self._heads[record.group] = record
            elif isinstance(record, CommitRecord):
                self._forget(record.step)
                self._commits[record.step] = record
                self._steps |= dict.fromkeys(record.groups, record.step)
            elif isinstance(record, StartRecord):
                for step in [step for step in self._commits if step >= record.version]:
                    self._forget(step)
                for step in [step for step in self._trained if step >= record.version]:
                    del self._trained[step]
                self._starts.append(record)
            elif isinstance(record, TrainedHead):
                self._trained[record.step] = offset
            elif isinstance(record, FailureRecord):
                self._failures.append(record)
            else:
                self._evaluations.append(record)

    def _forget(self, step: int) -> None:
        """Make a commit void, if it is there; its groups stay, and may train again."""
        commit = self._commits.pop(step, None)
        for group in commit.groups if commit else ():
            del self._steps[group]
