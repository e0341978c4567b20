"""Whether an engine process lives: judged from what it answers and what it uses. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

__all__ = ["PULSE_SECONDS", "Pulse", "Vitals"]

PULSE_SECONDS = 1.0
"""Between two looks at the engine."""

_STOPPED_LOOKS = 2
_IDLE_SHARE = 0.05
"""Of one processor; below it a process does nothing."""


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at an engine's processes found."""

    dead: bool = False
    """Whether one of them is gone."""
    stopped: bool = False
    """Whether one of them was stopped (SIGSTOP)."""
    cpu_seconds: float = 0.0
    """Processor time that all of them have used so far."""


@dataclass
class Pulse:
    """Looks at an engine once a `PULSE_SECONDS`; time is counted in looks.

    So a laptop that slept, or an owner that was stopped itself, takes nobody for dead.
    """

    stall_seconds: float
    step_seconds: float
    _silent: int = 0
    _stopped: int = 0
    _idle_since: float = 0.0
    _without_progress: int = 0
    _progress: int = field(default=-1)

    def look(self, vitals: Vitals, *, answered: bool, progress: int, has_work: bool) -> str | None:
        """Why the engine has to be replaced, or None.

        Args:
            answered: Whether all of it answered since the last look.
            progress: A number that changes when it gets on.
            has_work: Whether it should get on.
        """
        if vitals.dead:
            return "its process has died"
        self._stopped = self._stopped + 1 if vitals.stopped else 0
        if self._stopped >= _STOPPED_LOOKS:
            return "its process was stopped"
        if answered or not self._silent:
            self._idle_since = vitals.cpu_seconds
        self._silent = 0 if answered else self._silent + 1
        silent = self._silent * PULSE_SECONDS
        if silent >= self.stall_seconds:
            used = vitals.cpu_seconds - self._idle_since
            if used < _IDLE_SHARE * silent:
                return f"it has not answered for {silent:.0f} s, and does nothing"
        if silent >= self.step_seconds:
            return f"it has not answered for {silent:.0f} s"
        moved = not has_work or progress != self._progress
        self._progress = progress
        self._without_progress = 0 if moved else self._without_progress + 1
        if self._without_progress * PULSE_SECONDS >= self.step_seconds:
            return f"it has made no token for {self._without_progress * PULSE_SECONDS:.0f} s"
        return None
