"""Completers that are slow, fail or hang: each wraps another, and they nest.

A fault is the same around a `TokenCompleter` and a `MessageCompleter`; the two classes of a pair
differ in what they wrap alone. Which calls it hits depends on the seed and on the place of the
call: its number within its episode, so that episodes at the same time do not change each other's
faults; by hand, outside of a rollout, its number among all calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import TypeAlias

import anyio

from tinker_rl.completers import (
    MessageCompleter,
    StopCondition,
    TokenCompleter,
    TokensWithLogprobs,
)
from tinker_rl.errors import CompleterError, ConfigError
from tinker_rl.renderers import Message
from tinker_rl.testing.completers.injected import injected
from tinker_rl.testing.completers.places import CallPlaces, Place
from tinker_rl.types import ModelInput

__all__ = [
    "DelayedCompleter",
    "DelayedMessageCompleter",
    "FailingCompleter",
    "FailingMessageCompleter",
    "FlakyCompleter",
    "FlakyMessageCompleter",
    "HangingCompleter",
    "HangingMessageCompleter",
]

ErrorSource: TypeAlias = BaseException | Callable[[], BaseException]
"""What a failing completer raises: an error, its class, or a function that makes it."""


class _Fault(ABC):
    """What happens before the wrapped completer is asked; may wait or raise."""

    def __init__(self) -> None:
        self._places = CallPlaces()

    async def before(self) -> None:
        """Do it. Cancelled, it leaves nothing behind."""
        await self._strike(self._places.next())

    @abstractmethod
    async def _strike(self, place: Place) -> None: ...


class _Delay(_Fault):
    def __init__(self, seconds: float | tuple[float, float], seed: int) -> None:
        super().__init__()
        self._low, self._high = seconds if isinstance(seconds, tuple) else (seconds, seconds)
        if not 0 <= self._low <= self._high:
            raise ConfigError(
                f"DelayedCompleter.seconds: expected 0 or more, or a pair (least, most); got "
                f"{seconds}. Put the smaller one first."
            )
        self._seed = seed

    async def _strike(self, place: Place) -> None:
        await anyio.sleep(place.rng(self._seed).uniform(self._low, self._high))


class _Failure(_Fault):
    def __init__(self, at: int | Collection[int] | None, error: ErrorSource | None) -> None:
        super().__init__()
        self._at = at
        self._error = error

    async def _strike(self, place: Place) -> None:
        if _is_hit(self._at, place):
            raise _made(self._error, f"FailingCompleter: call {place.turn} fails on purpose.")


class _Flakiness(_Fault):
    def __init__(self, probability: float, seed: int, error: ErrorSource | None) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ConfigError(
                f"FlakyCompleter.probability: expected 0 to 1; got {probability}. Give the share "
                "of calls that fail."
            )
        self._probability = probability
        self._seed = seed
        self._error = error

    async def _strike(self, place: Place) -> None:
        if place.rng(self._seed).random() < self._probability:
            raise _made(self._error, f"FlakyCompleter: call {place.turn} fails by chance.")


class _Hang(_Fault):
    def __init__(self, at: int | Collection[int] | None) -> None:
        super().__init__()
        self._at = at
        self.num_waiting = 0

    async def _strike(self, place: Place) -> None:
        if not _is_hit(self._at, place):
            return
        self.num_waiting += 1
        try:
            await anyio.sleep_forever()
        finally:
            self.num_waiting -= 1


def _is_hit(at: int | Collection[int] | None, place: Place) -> bool:
    if at is None:
        return True
    return place.turn == at if isinstance(at, int) else place.turn in at


def _made(error: ErrorSource | None, text: str) -> BaseException:
    """The error to raise; made anew where it can be, since a raised one collects its traceback."""
    if error is None:
        return injected(CompleterError(text))
    return injected(error if isinstance(error, BaseException) else error())


class _FaultyTokens(TokenCompleter):
    def __init__(self, inner: TokenCompleter, fault: _Fault) -> None:
        self.inner = inner
        self._fault = fault

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        await self._fault.before()
        return await self.inner(model_input, stop, max_tokens=max_tokens)


class _FaultyMessages(MessageCompleter):
    def __init__(self, inner: MessageCompleter, fault: _Fault) -> None:
        self.inner = inner
        self._fault = fault

    async def __call__(self, messages: list[Message]) -> Message:
        await self._fault.before()
        return await self.inner(messages)


class DelayedCompleter(_FaultyTokens):
    """Answers late.

    Args:
        inner: Answers.
        seconds: How late, or (least, most) to draw from.
        seed: Decides what is drawn.
    """

    def __init__(
        self, inner: TokenCompleter, seconds: float | tuple[float, float], seed: int = 0
    ) -> None:
        super().__init__(inner, _Delay(seconds, seed))


class DelayedMessageCompleter(_FaultyMessages):
    """`DelayedCompleter`, in messages."""

    def __init__(
        self, inner: MessageCompleter, seconds: float | tuple[float, float], seed: int = 0
    ) -> None:
        super().__init__(inner, _Delay(seconds, seed))


class FailingCompleter(_FaultyTokens):
    """Raises at some calls of each episode.

    Args:
        inner: Answers the others.
        at: Which call fails, or which calls, from 0; None: all.
        error: What is raised: an error, its class or a function that makes it; None: a
            `CompleterError` that says that it is meant.
    """

    def __init__(
        self,
        inner: TokenCompleter,
        at: int | Collection[int] | None = None,
        error: ErrorSource | None = None,
    ) -> None:
        super().__init__(inner, _Failure(at, error))


class FailingMessageCompleter(_FaultyMessages):
    """`FailingCompleter`, in messages."""

    def __init__(
        self,
        inner: MessageCompleter,
        at: int | Collection[int] | None = None,
        error: ErrorSource | None = None,
    ) -> None:
        super().__init__(inner, _Failure(at, error))


class FlakyCompleter(_FaultyTokens):
    """Raises by chance.

    Args:
        inner: Answers where it does not.
        probability: Share of the calls that fail.
        seed: Decides which.
        error: As in `FailingCompleter`.
    """

    def __init__(
        self,
        inner: TokenCompleter,
        probability: float,
        seed: int = 0,
        error: ErrorSource | None = None,
    ) -> None:
        super().__init__(inner, _Flakiness(probability, seed, error))


class FlakyMessageCompleter(_FaultyMessages):
    """`FlakyCompleter`, in messages."""

    def __init__(
        self,
        inner: MessageCompleter,
        probability: float,
        seed: int = 0,
        error: ErrorSource | None = None,
    ) -> None:
        super().__init__(inner, _Flakiness(probability, seed, error))


class HangingCompleter(_FaultyTokens):
    """Never answers at some calls of each episode; only a cancellation ends them.

    Args:
        inner: Answers the others.
        at: Which call hangs, or which calls, from 0; None: all.
    """

    def __init__(self, inner: TokenCompleter, at: int | Collection[int] | None = None) -> None:
        self._hang = _Hang(at)
        super().__init__(inner, self._hang)

    @property
    def num_waiting(self) -> int:
        """Calls that hang now: 0 when all were cancelled."""
        return self._hang.num_waiting


class HangingMessageCompleter(_FaultyMessages):
    """`HangingCompleter`, in messages."""

    def __init__(self, inner: MessageCompleter, at: int | Collection[int] | None = None) -> None:
        self._hang = _Hang(at)
        super().__init__(inner, self._hang)

    @property
    def num_waiting(self) -> int:
        """Calls that hang now: 0 when all were cancelled."""
        return self._hang.num_waiting
