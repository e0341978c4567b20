"""How many groups may fail before a run stops."""

from __future__ import annotations

from tinker_rl.errors import CompleterError, EnvError
from tinker_rl.rl.failure_counts import FailureCounts, describe_failure
from tinker_rl.rl.outcomes import DroppedGroup, InfraFailure

__all__ = ["ErrorBudget"]


class ErrorBudget:
    """Counts failed groups, and says when they are too many.

    Args:
        max_fraction: Share of the groups so far that may have failed. One failure alone is
            forgiven, unless the share is 0.
        where: What the groups were rolled out for, for the message.
    """

    def __init__(self, max_fraction: float, where: str = "training") -> None:
        self._max_fraction = max_fraction
        self._where = where
        self._num_groups = 0
        self._failures = FailureCounts()
        self._num_infra_failures = 0

    @property
    def num_failed(self) -> int:
        """Groups that failed so far."""
        return self._failures.total

    def count(self, dropped: DroppedGroup | None) -> None:
        """Count one group; None if it did not fail."""
        self._num_groups += 1
        if dropped is not None:
            self._failures.add(dropped.failure)
            self._num_infra_failures += isinstance(dropped.failure, InfraFailure)

    def check(self) -> None:
        """Go on, or stop.

        Raises:
            EnvError: if too many groups failed, most of them by their environment.
            CompleterError: if too many failed, most of them by the sampler.
        """
        forgiven = 1 if self._max_fraction > 0 else 0
        if self.num_failed <= max(forgiven, self._max_fraction * self._num_groups):
            return
        kind = CompleterError if 2 * self._num_infra_failures > self.num_failed else EnvError
        shown = self._failures.lines(describe_failure, most=5)
        raise kind(
            f"{self._where}: expected at most {self._max_fraction:.0%} of the groups to fail "
            f"(max_failed_group_fraction); got {self.num_failed} of {self._num_groups}:\n  "
            + "\n  ".join(shown)
            + "\nMend the cause and run the same command to go on, or raise the limit."
        )
