"""Failures counted by what failed where, whatever the errors said in particular."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tinker_rl.rl.outcomes import EnvFailure, Failure, InfraFailure

__all__ = ["FailureCounts", "describe_failure"]


def describe_failure(failure: Failure) -> str:
    """A failure in a line."""
    told = f"{failure.error_type}: {failure.error}"
    if isinstance(failure, InfraFailure):
        return f"sampler, in {failure.where}: {told}"
    at = f" ({failure.location})" if failure.location else ""
    return f"environment, in {failure.where}{at}: {told}"


class FailureCounts:
    """How often each kind of failure was met: an error of one type, raised at one place."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._first: dict[tuple[str, ...], Failure] = {}
        self._varied: set[tuple[str, ...]] = set()
        """Kinds whose errors did not all say the same."""

    def add(self, failure: Failure) -> int:
        """Count a failure. Returns how many of its kind there are now."""
        location = failure.location if isinstance(failure, EnvFailure) else ""
        kind = (type(failure).__name__, failure.error_type, failure.where, location)
        first = self._first.setdefault(kind, failure)
        if first.error != failure.error:
            self._varied.add(kind)
        self._counts[kind] += 1
        return self._counts[kind]

    @property
    def total(self) -> int:
        """All of them."""
        return self._counts.total()

    def lines(self, describe: Callable[[Failure], str], most: int | None = None) -> list[str]:
        """A line for each kind, often met ones first: how many, and what the first of them was."""
        shown: list[str] = []
        for kind, count in self._counts.most_common(most):
            more = " (the first; not all say the same)" if kind in self._varied else ""
            shown.append(f"{count} x {describe(self._first[kind])}{more}")
        return shown
