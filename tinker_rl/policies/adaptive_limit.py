"""How many requests may be at the sampler at a time: fixed, or learned from its throughput.

Pure state: nothing here waits, and time is passed in.
"""

from __future__ import annotations

from typing import Protocol

from tinker_rl.errors import ConfigError

__all__ = ["AdaptiveLimit", "FixedLimit", "Limit"]

STEP = 1.5
"""Factor by which a limit is tried above and below the present one."""
GAIN = 1.1
"""A higher limit is kept if it gives this much more throughput (`STEP` times it, at best)."""
NO_LOSS = 0.95
"""A lower limit is kept if it gives this share of the throughput. Above 1 / `GAIN`, so that what
is not worth going up for is not gone down from either."""
WINDOW_REQUESTS = 32
WINDOW_TURNOVERS = 2
"""Requests that a measurement takes: so many, and the limit so many times over."""
LEAST_PATIENCE, MOST_PATIENCE = 4, 64
"""Measurements between two trials; doubled after each that changed nothing."""


class Limit(Protocol):
    """Bounds the requests in flight, and is told how each of them went."""

    @property
    def value(self) -> int:
        """Most requests in flight, 1 or more; those beyond a lowered one run to their end."""
        ...

    def started(self) -> int:
        """A request starts; gives the mark by which `finished` or `failed` knows when."""
        ...

    def finished(self, mark: int, *, num_tokens: int, seconds: float, num_in_flight: int) -> None:
        """A request has its tokens, after so many seconds; `num_in_flight` counts it too."""
        ...

    def failed(self, mark: int) -> None:
        """The sampler failed at a request, or let it wait too long."""
        ...


class FixedLimit:
    """A limit that stays as it is.

    Args:
        value: Most requests in flight, 1 or more.
    """

    def __init__(self, value: int) -> None:
        if value < 1:
            raise ConfigError(
                f"FixedLimit.value: expected 1 or more; got {value}. Allow a request at a time."
            )
        self.value = value

    def started(self) -> int:
        """Nothing is kept of it."""
        return 0

    def finished(self, mark: int, *, num_tokens: int, seconds: float, num_in_flight: int) -> None:
        """Changes nothing."""

    def failed(self, mark: int) -> None:
        """Changes nothing."""


class AdaptiveLimit:
    """Climbs to the limit from which on more requests in flight give no more tokens a second.

    Throughput at a limit is `limit * tokens / seconds`, summed over requests that began and ended
    while exactly so many were in flight: the lengths of answers, which vary a lot, cancel out. At a
    limit that is not reached nothing is learned. A limit is compared with one `STEP` times above or
    below, which is kept if it is worth it, and then the next in that direction is tried; if not,
    the limit goes back, and the next trial, in the other direction, waits longer. A fault halves
    the limit once, however many requests it hit, and it grows again from there.

    Args:
        initial: Limit to begin with.
        minimum: Least limit, 1 or more.
        maximum: Greatest limit.
    """

    def __init__(self, initial: int = 64, *, minimum: int = 1, maximum: int = 4096) -> None:
        if not 1 <= minimum <= initial <= maximum:
            raise ConfigError(
                "AdaptiveLimit: expected 1 <= minimum <= initial <= maximum; got "
                f"minimum={minimum}, initial={initial}, maximum={maximum}. Reorder them."
            )
        self._minimum = minimum
        self._maximum = maximum
        self._value = initial
        self._window = 0
        """The present measurement; a request that began in an earlier one tells nothing."""
        self._last_fault = 0
        """The first measurement after the last fault."""
        self._base: tuple[int, float] | None = None
        """During a trial: the limit to go back to, and its throughput."""
        self._goes_up = True
        """Direction of the trial, or of the next one."""
        self._patience = LEAST_PATIENCE
        self._rest = 0
        """Measurements until the next trial."""
        self._begin(initial)

    @property
    def value(self) -> int:
        """Most requests in flight: `minimum` <= value <= `maximum`."""
        return self._value

    def started(self) -> int:
        """See `Limit`."""
        return self._window

    def finished(self, mark: int, *, num_tokens: int, seconds: float, num_in_flight: int) -> None:
        """See `Limit`."""
        if num_in_flight != self._value:
            self._begin(self._value)
        elif mark == self._window:
            self._num_requests += 1
            self._num_tokens += num_tokens
            self._seconds += max(0.0, seconds)
            if self._num_requests >= max(WINDOW_REQUESTS, WINDOW_TURNOVERS * self._value):
                self._end()

    def failed(self, mark: int) -> None:
        """See `Limit`."""
        if mark < self._last_fault:
            return
        self._base, self._goes_up = None, True
        self._patience, self._rest = LEAST_PATIENCE, 0
        self._begin(max(self._minimum, self._value // 2))
        self._last_fault = self._window

    def _begin(self, value: int) -> None:
        """Measure afresh, at this limit."""
        self._value = value
        self._window += 1
        self._num_requests = self._num_tokens = 0
        self._seconds = 0.0

    def _end(self) -> None:
        """Decide on the limit to measure next."""
        if self._num_tokens <= 0 or self._seconds <= 0:  # no throughput to compare
            self._begin(self._value)
            return
        throughput = self._value * self._num_tokens / self._seconds
        if self._base is None:
            self._rest -= 1
            self._try_next(throughput) if self._rest < 0 else self._begin(self._value)
        elif throughput >= self._base[1] * (GAIN if self._goes_up else NO_LOSS):
            self._patience = LEAST_PATIENCE
            self._try_next(throughput)
        else:
            self._stay_at(self._base[0])
            self._goes_up = not self._goes_up

    def _try_next(self, throughput: float) -> None:
        """Compare the present limit with the next one."""
        for _ in range(2):
            value = self._next_value()
            if value != self._value:
                self._base = (self._value, throughput)
                self._begin(value)
                return
            self._goes_up = not self._goes_up
        self._stay_at(self._value)

    def _next_value(self) -> int:
        if self._goes_up:
            return min(self._maximum, max(self._value + 1, int(self._value * STEP)))
        return max(self._minimum, min(self._value - 1, int(self._value / STEP)))

    def _stay_at(self, value: int) -> None:
        self._base = None
        self._rest = self._patience
        self._patience = min(MOST_PATIENCE, 2 * self._patience)
        self._begin(value)
