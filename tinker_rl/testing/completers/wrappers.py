"""Completers that are slow, fail, hang or keep a record: each wraps another, and they nest.

A fault is the same around a `TokenCompleter` and a `MessageCompleter`; the two classes of a pair
differ in what they wrap alone. Which calls it hits depends on the seed and on the place of the
call: its number within its episode, so that episodes at the same time do not change each other's
faults; by hand, outside of a rollout, its number among all calls.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, Generic, TypeAlias, TypeVar

import anyio
import msgspec

from tinker_rl.completers import (
    MessageCompleter,
    StopCondition,
    TokenCompleter,
    TokensWithLogprobs,
)
from tinker_rl.errors import CompleterError, ConfigError, RequestError
from tinker_rl.policies import EpisodeKey, PresentEpisode, present_episode, stable_seed
from tinker_rl.renderers import Message
from tinker_rl.testing.completers.injected import injected
from tinker_rl.types import ModelInput

__all__ = [
    "CallPlaces",
    "DelayedCompleter",
    "DelayedMessageCompleter",
    "FailingCompleter",
    "FailingMessageCompleter",
    "FlakyCompleter",
    "FlakyMessageCompleter",
    "HangingCompleter",
    "HangingMessageCompleter",
    "Place",
    "RecordedCall",
    "RecordingCompleter",
    "RecordingMessageCompleter",
]

Prompt = TypeVar("Prompt")
Answer = TypeVar("Answer")

ErrorSource: TypeAlias = BaseException | Callable[[], BaseException]
"""What a failing completer raises: an error, its class, or a function that makes it."""


class Place(msgspec.Struct, frozen=True):
    """Which call of a completer."""

    episode: EpisodeKey | None
    """The episode that asks; None outside of a rollout."""
    turn: int
    """How many calls the episode made before: 0 at first."""

    def rng(self, seed: int) -> random.Random:
        """A generator that depends on the seed and this place alone."""
        key = self.episode
        parts = () if key is None else (key.run_seed, key.group, key.member, key.attempt)
        return random.Random(stable_seed("completer", seed, *parts, self.turn))


class CallPlaces:
    """Counts the calls of a completer, by episode; one that is played again begins anew."""

    def __init__(self) -> None:
        self._counts: dict[EpisodeKey | None, tuple[PresentEpisode | None, int]] = {}

    def next(self) -> Place:
        """The place of the call that is made now."""
        episode = _episode_or_none()
        key = None if episode is None else episode.key
        counted, turn = self._counts.get(key, (episode, 0))
        if counted is not episode:
            turn = 0
        self._counts[key] = episode, turn + 1
        return Place(key, turn)


def _episode_or_none() -> PresentEpisode | None:
    try:
        return present_episode()
    except RequestError:  # outside of a rollout
        return None


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


class RecordedCall(msgspec.Struct, Generic[Prompt, Answer]):
    """One call of a completer, and what came of it."""

    place: Place
    prompt: Prompt
    """A `ModelInput`, or a conversation."""
    began: float
    """`anyio.current_time()`, in seconds."""
    stop: Any = None
    """The stop condition; None for messages."""
    max_tokens: int | None = None
    answer: Answer | None = None
    """None where it failed, was cancelled or has not come yet."""
    error: BaseException | None = None
    """What it raised; a cancellation too."""
    seconds: float | None = None
    """How long it took; None while it goes on."""


class _Record(Generic[Prompt, Answer]):
    def __init__(self) -> None:
        self.calls: list[RecordedCall[Prompt, Answer]] = []
        self._places = CallPlaces()

    def begin(
        self, prompt: Prompt, stop: Any = None, max_tokens: int | None = None
    ) -> RecordedCall[Prompt, Answer]:
        call: RecordedCall[Prompt, Answer] = RecordedCall(
            self._places.next(), prompt, anyio.current_time(), stop, max_tokens
        )
        self.calls.append(call)
        return call


class RecordingCompleter(TokenCompleter):
    """Keeps every call and its answer, in `calls`, in the order in which they began."""

    def __init__(self, inner: TokenCompleter) -> None:
        self.inner = inner
        self._record: _Record[ModelInput, TokensWithLogprobs] = _Record()

    @property
    def calls(self) -> list[RecordedCall[ModelInput, TokensWithLogprobs]]:
        """Every call so far."""
        return self._record.calls

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        call = self._record.begin(model_input, stop, max_tokens)
        try:
            call.answer = await self.inner(model_input, stop, max_tokens=max_tokens)
            return call.answer
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.seconds = anyio.current_time() - call.began


class RecordingMessageCompleter(MessageCompleter):
    """`RecordingCompleter`, in messages."""

    def __init__(self, inner: MessageCompleter) -> None:
        self.inner = inner
        self._record: _Record[list[Message], Message] = _Record()

    @property
    def calls(self) -> list[RecordedCall[list[Message], Message]]:
        """Every call so far."""
        return self._record.calls

    async def __call__(self, messages: list[Message]) -> Message:
        call = self._record.begin(list(messages))
        try:
            call.answer = await self.inner(messages)
            return call.answer
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.seconds = anyio.current_time() - call.began
