"""The two ends of a mailbox: senders wait for room or an answer, an actor waits for work."""

from __future__ import annotations

from enum import Enum
from typing import Any

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from tinker_rl.actors.envelope import Envelope
from tinker_rl.actors.errors import ActorStopped, MailboxFull
from tinker_rl.actors.mailbox import Mailbox

__all__ = ["Inbox"]


class _State(Enum):
    OPEN = 0
    DRAINING = 1
    CLOSED = 2


class Inbox:
    """Moves envelopes as a `Mailbox` decides."""

    def __init__(self, path: str, capacity: int) -> None:
        self._path = path
        self._mailbox: Mailbox[Envelope] = Mailbox(capacity, on_admitted=Envelope.admit)
        self._state = _State.OPEN
        self._cause: Exception | None = None
        self._changed = anyio.Event()

    @property
    def has_room(self) -> bool:
        """Whether a message sent now would not have to wait."""
        return self._mailbox.has_room

    @property
    def is_drained(self) -> bool:
        """Whether it was closed with `drain`: what was sent before is handled."""
        return self._state is _State.DRAINING

    @property
    def is_finished(self) -> bool:
        """Whether it was closed and nothing is left to handle."""
        return self._state is not _State.OPEN and self._mailbox.is_empty

    def check_open(self) -> None:
        """
        Raises:
            ActorStopped: if messages are no longer taken in.
        """
        if not self._mailbox.is_open:
            raise self._refusal()

    async def send(self, envelope: Envelope) -> Any:
        """Wait until a `tell` is in the mailbox, or for the reply to an `ask`.

        Cancelled, it takes back a message that the actor has not begun with.
        """
        self.check_open()
        is_admitted = self._mailbox.offer(envelope)
        self._wake()
        if is_admitted and not envelope.is_ask:
            await cancel_shielded_checkpoint()
            return None
        try:
            return await envelope.wait()
        except BaseException:  # a cancellation, or the error that it was settled with
            envelope.asker = None
            if self._mailbox.withdraw(envelope):
                self._wake()
            raise

    def send_nowait(self, envelope: Envelope) -> None:
        """Put a `tell` into the mailbox, or raise."""
        self.check_open()
        if not self._mailbox.has_room:
            raise MailboxFull(
                f"{self._path}: expected room in the mailbox; got {self._mailbox.num_queued} of "
                f"{self._mailbox.capacity} places taken, {self._mailbox.num_in_line} senders "
                f"waiting. Use tell, which waits, or give the actor a larger mailbox."
            )
        self._mailbox.offer(envelope)
        self._wake()

    async def next(self) -> Envelope | None:
        """The next message to handle; None once there will be none. Cancelled, it takes none."""
        await checkpoint()
        while not self.is_finished:
            envelope = self._mailbox.take()
            if envelope is not None:
                return envelope
            await self._wait_for_change()
        return None

    async def pause(self, seconds: float) -> None:
        """Wait while messages arrive, but not beyond the moment at which nothing is left to do."""
        with anyio.move_on_after(seconds):
            while not self.is_finished:
                await self._wait_for_change()

    def close(self, *, drain: bool, cause: Exception | None = None) -> None:
        """Take in no more; without `drain`, answer what waits with `ActorStopped` from `cause`."""
        self._mailbox.close()
        if not drain:
            self._state = _State.CLOSED
            self._cause = self._cause or cause
            for envelope in self._mailbox.clear():
                envelope.fail(self._refusal())
        elif self._state is _State.OPEN:
            self._state = _State.DRAINING
        self._wake()

    def _refusal(self) -> ActorStopped:
        why = "failed" if self._cause is not None else "was stopped"
        error = ActorStopped(
            f"{self._path}: expected an actor that takes messages; got one that {why}. "
            f"Send messages before it is stopped, or handle ActorStopped."
        )
        error.__cause__ = self._cause
        return error

    def _wake(self) -> None:
        self._changed.set()

    async def _wait_for_change(self) -> None:
        self._changed = anyio.Event()
        await self._changed.wait()
