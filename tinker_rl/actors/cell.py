"""The life of one actor: its incarnations one after the other, around an inbox that stays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import anyio
from anyio.abc import TaskGroup, TaskStatus

from tinker_rl.actors.actor import Actor
from tinker_rl.actors.envelope import Envelope
from tinker_rl.actors.errors import ActorError, ActorFailed, ActorStopped, UnhandledMessage
from tinker_rl.actors.handlers import handler_for
from tinker_rl.actors.inbox import Inbox
from tinker_rl.actors.local_ref import LocalRef
from tinker_rl.actors.message import Message
from tinker_rl.actors.ref import ActorRef
from tinker_rl.actors.supervision import Restart, RestartBudget, Stop, Supervision
from tinker_rl.actors.waiting import Waiter, acting, begin_acting, refuse_to_wait_for_end

__all__ = ["Cell", "Owner"]

A = TypeVar("A", bound=Actor)
Ts = TypeVarTuple("Ts")

logger = logging.getLogger(__name__)


class Owner:
    """Owns actors, in one task group: that of the system, or of one incarnation of their parent."""

    def __init__(self, tasks: TaskGroup, parent: Cell | None) -> None:
        self._tasks = tasks
        self._parent = parent
        self._path = parent.path if parent is not None else ""
        self._cells: dict[Cell, None] = {}
        self._num_spawned = 0
        self._is_open = True

    async def spawn(
        self,
        factory: Callable[[*Ts], A],
        *args: *Ts,
        name: str | None,
        mailbox: int,
        supervision: Supervision,
    ) -> ActorRef[A]:
        """Start an actor; returns once its `on_start` has. Cancelled before that, there is none."""
        if not self._is_open:
            raise ActorStopped(
                f"{self._path or 'ActorSystem'}.spawn: expected an owner that goes on; got one "
                f"that ends. Spawn before it is stopped."
            )
        self._num_spawned += 1
        if name is None:
            name = f"{getattr(factory, '__name__', 'actor')}-{self._num_spawned}"
        cell = Cell(
            lambda: factory(*args),
            path=f"{self._path}/{name}",
            mailbox=mailbox,
            supervision=supervision,
            parent=self._parent,
            spawner=acting(),
        )
        self._cells[cell] = None
        await self._tasks.start(self._run, cell)
        return LocalRef[A](cell)

    async def stop_all(self, *, drain: bool) -> None:
        """Stop the actors one by one, youngest first: it may use older ones while it ends."""
        for cell in self._cells:
            refuse_to_wait_for_end(
                cell, "stop of all actors", "Let a task outside of them, or a parent, stop them."
            )
        self._is_open = False
        while self._cells:
            cell = next(reversed(self._cells))
            cell.inbox.close(drain=drain)
            await cell.wait_ended()

    async def _run(self, cell: Cell, *, task_status: TaskStatus[None]) -> None:
        try:
            await cell.run(task_status.started)
        finally:
            del self._cells[cell]


class Cell:
    """Runs one actor. Everybody else holds a ref."""

    def __init__(
        self,
        factory: Callable[[], object],
        *,
        path: str,
        mailbox: int,
        supervision: Supervision,
        parent: Cell | None,
        spawner: Waiter | None,
    ) -> None:
        self._factory = factory
        self._path = path
        self._supervision = supervision
        self._budget = RestartBudget(supervision) if isinstance(supervision, Restart) else None
        self._parent = parent
        self._spawner = spawner
        self._actor_type: type[Actor] = Actor
        self._has_started = False
        self._current: Envelope | None = None
        self._task_id: int | None = None
        self._ended = anyio.Event()
        self.inbox = Inbox(path, mailbox)

    @property
    def path(self) -> str:
        return self._path

    @property
    def task_id(self) -> int | None:
        return self._task_id

    @property
    def awaited_by(self) -> Waiter | None:
        if not self._has_started:
            return self._spawner
        return self._current.asker if self._current is not None else None

    @property
    def parent(self) -> Waiter | None:
        return self._parent

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def wait_ended(self) -> None:
        await self._ended.wait()

    def check_handles(self, message: Message[Any]) -> None:
        """
        Raises:
            UnhandledMessage: if the actor's class has no handler for the message.
        """
        if handler_for(self._actor_type.__handlers__, type(message)) is None:
            known = sorted(cls.__qualname__ for cls in self._actor_type.__handlers__)
            raise UnhandledMessage(
                f"{self._path}: expected a message that {self._actor_type.__qualname__} handles "
                f"({', '.join(known) or 'it handles none'}); got {type(message).__qualname__}. "
                f"Add a method marked with @handler."
            )

    async def run(self, started: Callable[[], None]) -> None:
        """Live, from the first construction to the end of the last incarnation.

        However this ends, everybody who waits for the actor is answered.

        Raises:
            Exception: the failure, if the actor could not be started or supervision escalates it.
        """
        self._task_id = begin_acting(self)
        try:
            await self._supervise(started)
        except Exception as failure:
            self.inbox.close(drain=False, cause=failure)
            raise
        finally:
            self.inbox.close(drain=False)
            self._fail_current(
                ActorStopped(
                    f"{self._path}: expected to finish the message at hand; got cancelled. "
                    f"The system that owns the actor has ended."
                )
            )
            self._task_id = None
            self._ended.set()

    async def _supervise(self, started: Callable[[], None]) -> None:
        while (failure := await self._live(started)) is not None:
            if not self._has_started:
                raise failure
            self._fail_current(self._failed_elsewhere(failure))
            if isinstance(self._supervision, Stop):
                logger.error("actor %s failed and is stopped", self._path, exc_info=failure)
                self.inbox.close(drain=False, cause=failure)
                return
            pause = self._budget.spend(anyio.current_time()) if self._budget is not None else None
            if pause is None:
                raise failure
            logger.warning("actor %s failed and is restarted", self._path, exc_info=failure)
            await self.inbox.pause(pause)
            if self.inbox.is_finished:
                return

    async def _live(self, started: Callable[[], None]) -> Exception | None:
        """Live one incarnation, and end all it owned. Returns its failure, if it had one."""
        try:
            async with anyio.create_task_group() as tasks:
                await self._run_incarnation(Owner(tasks, parent=self), tasks, started)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            failure, rest = group.split(Exception)
            fatal = rest and rest.split(anyio.get_cancelled_exc_class())[1]
            if failure is None or fatal is not None:
                raise
            # A cancellation beside the failure is no loss: the next checkpoint meets it again.
            return failure.exceptions[0] if len(failure.exceptions) == 1 else failure
        return None

    async def _run_incarnation(
        self, owner: Owner, tasks: TaskGroup, started: Callable[[], None]
    ) -> None:
        actor = self._factory()
        if not isinstance(actor, Actor):
            raise TypeError(
                f"{self._path}: expected a factory that returns an Actor; got {actor!r}. "
                f"Pass a class derived from Actor, or a function that makes one."
            )
        self._actor_type = type(actor)
        actor.__context__ = _Context(self, owner, tasks)
        await actor.on_start()
        if not self._has_started:
            self._has_started = True
            started()
        failure: Exception | None = None
        try:
            failure = await self._serve(actor)
        finally:
            await self._call_on_stop(actor, failure)
        if failure is not None:
            raise failure
        await owner.stop_all(drain=self.inbox.is_drained)

    async def _serve(self, actor: Actor) -> Exception | None:
        """Handle messages until there are no more, or a handler fails; returns its failure."""
        while (envelope := await self.inbox.next()) is not None:
            message = envelope.message
            name = handler_for(self._actor_type.__handlers__, type(message))
            assert name is not None  # check_handles saw to it
            self._current = envelope
            try:
                reply = await getattr(actor, name)(message)
            except Exception as error:
                self._current = None
                envelope.fail(error)
                if not (envelope.is_ask and isinstance(error, actor.reply_errors)):
                    error.add_note(f"in actor {self._path}, handling {type(message).__qualname__}")
                    return error
            else:
                self._current = None
                envelope.answer(reply)
        return None

    async def _call_on_stop(self, actor: Actor, failure: Exception | None) -> None:
        try:
            with anyio.move_on_after(actor.stop_seconds, shield=True) as scope:
                await actor.on_stop()
            if scope.cancelled_caught:
                raise ActorError(
                    f"{self._path}: expected on_stop to end within {actor.stop_seconds} s; got no "
                    f"end. Make it quicker, or raise {type(actor).__qualname__}.stop_seconds."
                )
        except Exception as error:
            if failure is None:
                raise
            raise ExceptionGroup(
                f"actor {self._path} failed, and its on_stop too", [failure, error]
            ) from None

    def _failed_elsewhere(self, failure: Exception) -> ActorFailed:
        error = ActorFailed(
            f"{self._path}: expected to finish the message at hand; got a failure of a child or a "
            f"task of the actor. Ask again if the message may be handled twice."
        )
        error.__cause__ = failure
        return error

    def _fail_current(self, error: Exception) -> None:
        if self._current is not None:
            self._current.fail(error)
            self._current = None


class _Context:
    """What one incarnation may use of its cell."""

    def __init__(self, cell: Cell, owner: Owner, tasks: TaskGroup) -> None:
        self._cell = cell
        self._owner = owner
        self._tasks = tasks

    @property
    def ref(self) -> ActorRef[Any]:
        return LocalRef[Any](self._cell)

    def start_soon(self, function: Callable[[*Ts], Coroutine[Any, Any, Any]], *args: *Ts) -> None:
        self._tasks.start_soon(function, *args)

    def stop_soon(self, *, drain: bool) -> None:
        self._cell.inbox.close(drain=drain)

    async def spawn(
        self,
        factory: Callable[[*Ts], A],
        *args: *Ts,
        name: str | None,
        mailbox: int,
        supervision: Supervision,
    ) -> ActorRef[A]:
        return await self._owner.spawn(
            factory, *args, name=name, mailbox=mailbox, supervision=supervision
        )
