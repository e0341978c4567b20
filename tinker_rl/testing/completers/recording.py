"""Completers that keep a record of what the one they wrap was asked, and of what it answered."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import anyio
import msgspec

from tinker_rl.completers import (
    MessageCompleter,
    StopCondition,
    TokenCompleter,
    TokensWithLogprobs,
)
from tinker_rl.renderers import Message
from tinker_rl.testing.completers.places import CallPlaces, Place
from tinker_rl.types import ModelInput

__all__ = ["RecordedCall", "RecordingCompleter", "RecordingMessageCompleter"]

Prompt = TypeVar("Prompt")
Answer = TypeVar("Answer")


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
