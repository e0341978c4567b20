"""What a failure of an actor means, and how many restarts it may cost: pure state, no waiting."""

from __future__ import annotations

from collections import deque

import msgspec

__all__ = ["Escalate", "Restart", "RestartBudget", "Stop", "Supervision"]


class Restart(msgspec.Struct, frozen=True):
    """Put a new instance in the failed one's place; escalate when that happens too often."""

    max_restarts: int = 3
    """Restarts allowed in any `within_seconds`; the failure after them escalates."""
    within_seconds: float = 60.0
    """Length of the sliding window in which restarts are counted."""
    backoff_seconds: float = 0.1
    """Pause before the first restart in a window; each further one waits twice as long."""
    max_backoff_seconds: float = 30.0
    """The longest pause."""

    def __post_init__(self) -> None:
        for name in ("max_restarts", "within_seconds", "backoff_seconds", "max_backoff_seconds"):
            value = getattr(self, name)
            if not value >= 0:  # also refuses NaN
                raise ValueError(
                    f"Restart.{name}: expected 0 or more; got {value}. Use Stop() or Escalate() "
                    f"for an actor that is not to be restarted."
                )


class Stop(msgspec.Struct, frozen=True):
    """End the failed actor, log the failure, and leave everybody else alone."""


class Escalate(msgspec.Struct, frozen=True):
    """End the failed actor and let its owner fail with the same error."""


Supervision = Restart | Stop | Escalate


class RestartBudget:
    """Counts restarts in a sliding window."""

    def __init__(self, policy: Restart) -> None:
        self._policy = policy
        self._restarts: deque[float] = deque()

    def spend(self, now: float) -> float | None:
        """Pay for the restart that a failure at `now` calls for.

        Args:
            now: Time of the failure in seconds, on a clock that does not go back.
        Returns:
            Seconds to wait before the restart, or None if there is nothing left to pay with.
        """
        policy = self._policy
        while self._restarts and now - self._restarts[0] >= policy.within_seconds:
            self._restarts.popleft()
        num_before = len(self._restarts)
        if num_before >= policy.max_restarts:
            return None
        self._restarts.append(now)
        # 2**64 exceeds any pause: the cap on the exponent only keeps the float finite.
        pause = policy.backoff_seconds * 2.0 ** min(num_before, 64)
        return min(pause, policy.max_backoff_seconds)
