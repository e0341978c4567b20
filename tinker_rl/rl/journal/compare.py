"""What is left of a record when two runs are compared."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from tinker_rl.rl.journal.records import (
    CommitRecord,
    EvaluationRecord,
    FailureRecord,
    GroupRecord,
    Record,
    TrainedRecord,
)
from tinker_rl.rl.outcomes import DroppedGroup, GroupOutcome, RolloutTimes

__all__ = ["without_times"]

T = TypeVar("T")


def without_times(record: Record) -> Record:
    """A record less what two equal runs differ in, so that `encode` gives equal bytes for both.

    That is: times, metrics named `time/...`, `..._seconds` or `..._per_second`, paths of the runs'
    own weights, and how many tokens were sampled for a group that was dropped in the middle.
    Metrics are in the order of their names.
    """
    if isinstance(record, GroupRecord):
        outcome = None if record.outcome is None else _without_times(record.outcome)
        return replace(record, outcome=outcome)
    if isinstance(record, FailureRecord):
        return replace(record, outcome=_dropped_without_times(record.outcome))
    if isinstance(record, EvaluationRecord):
        return replace(record, metrics=_timeless(record.metrics))
    if isinstance(record, CommitRecord):
        return replace(record, sampler_path=None, metrics=_timeless(record.metrics))
    if isinstance(record, TrainedRecord):
        return record
    return replace(record, sampler_path=None)


def _without_times(outcome: GroupOutcome) -> GroupOutcome:
    if isinstance(outcome, DroppedGroup):
        return _dropped_without_times(outcome)
    return replace(outcome, times=RolloutTimes())


def _dropped_without_times(outcome: DroppedGroup) -> DroppedGroup:
    return replace(outcome, times=RolloutTimes(), num_sampled_tokens=0)


def _timeless(metrics: dict[str, T]) -> dict[str, T]:
    return {
        name: metrics[name]
        for name in sorted(metrics)
        if not (name.startswith("time/") or name.endswith(("_seconds", "_per_second")))
    }
