"""Who waits for whom: an actor that waits for itself is told so, instead of hanging."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

import anyio

from tinker_rl.actors.errors import ActorDeadlock

__all__ = ["Waiter", "acting", "begin_acting", "refuse_to_wait_for_end", "refuse_to_wait_for_turn"]


class Waiter(Protocol):
    """One actor, as seen here."""

    @property
    def path(self) -> str: ...

    @property
    def task_id(self) -> int | None:
        """The task in which its handlers and hooks run; None if it has ended."""
        ...

    @property
    def awaited_by(self) -> Waiter | None:
        """The actor whose own task waits for what this one does now; None if none does."""
        ...

    @property
    def parent(self) -> Waiter | None:
        """The actor that spawned this one, and cannot end before it; None below the system."""
        ...


# Tasks inherit it from whoever starts them, so what it holds is true only of the task of that id.
_acting: ContextVar[Waiter | None] = ContextVar("_acting", default=None)


def begin_acting(waiter: Waiter) -> int:
    """Say that from now on the current task is an actor's own; returns the id of the task."""
    _acting.set(waiter)
    return anyio.get_current_task().id


def acting() -> Waiter | None:
    """The actor in whose own task, that is in whose handler or hook, the caller runs; or None.

    Tasks that a handler starts do not count: the handler may return without waiting for them.
    """
    waiter = _acting.get()
    if waiter is None or waiter.task_id != anyio.get_current_task().id:
        return None
    return waiter


def refuse_to_wait_for_turn(target: Waiter, what: str, advice: str) -> None:
    """Check that `target` can come to its next message while the caller waits for it.

    Raises:
        ActorDeadlock: if the caller is a handler or hook that `target` is, or waits for, itself.
    """
    for waiter in _chain(acting()):
        if waiter is target:
            raise _deadlock(target, what, advice)


def refuse_to_wait_for_end(target: Waiter, what: str, advice: str) -> None:
    """Check that `target` can end, and its children before it, while the caller waits for it.

    Raises:
        ActorDeadlock: if the caller is a handler or hook that `target` or one of those below it
            is, or waits for, itself.
    """
    for waiter in _chain(acting()):
        above: Waiter | None = waiter
        while above is not None:
            if above is target:
                raise _deadlock(target, what, advice)
            above = above.parent


def _chain(waiter: Waiter | None) -> Iterator[Waiter]:
    while waiter is not None:
        yield waiter
        waiter = waiter.awaited_by


def _deadlock(target: Waiter, what: str, advice: str) -> ActorDeadlock:
    chain = " <- ".join(waiter.path for waiter in _chain(acting()))
    return ActorDeadlock(
        f"{what}: expected an actor that does not wait for the caller; got {target.path}, while "
        f"these wait for each other: {chain}. {advice}"
    )
