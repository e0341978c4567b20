"""What is left of a record when two runs are compared."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tinker_rl.rl.journal.records import CommitRecord, EvaluationRecord, GroupRecord, Record

__all__ = ["without_times"]

S = TypeVar("S", bound=msgspec.Struct)


def without_times(record: Record) -> Record:
    """A record less what two equal runs differ in: times, and paths of their own checkpoints."""
    if isinstance(record, GroupRecord):
        return msgspec.structs.replace(record, outcome=_cleared(record.outcome))
    if isinstance(record, EvaluationRecord):
        return msgspec.structs.replace(record, metrics=_untimed(record.metrics))
    if isinstance(record, CommitRecord):
        metrics = _untimed(record.metrics)
        return msgspec.structs.replace(record, sampler_path=None, metrics=metrics)
    return msgspec.structs.replace(record, sampler_path=None)


def _cleared(outcome: S | None) -> S | None:
    """An outcome whose `times` are their default."""
    fields = {} if outcome is None else {f.name: f for f in msgspec.structs.fields(outcome)}
    if outcome is None or "times" not in fields:
        return outcome
    return msgspec.structs.replace(outcome, times=_default(fields["times"]))


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _untimed(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics by name, less seconds and rates."""
    return {
        name: metrics[name]
        for name in sorted(metrics)
        if not name.startswith("time/") and "per_second" not in name
    }
