"""Counts where an episode waits, and cancels it at one of these places.

Every task that a rollout starts is stepped by a driver of ours, which sees each suspension before
the event loop does. So it is the same on trio and on asyncio, and exact: the cancellation is asked
for in the very step that suspends, and the loop delivers it there.

What counts is a suspension in the code of the environment or of the builder, in tasks that this
code started, in a policy that acts, and in a call that runs in a thread or in a process.
"""

from __future__ import annotations

import asyncio
import linecache
import math
import sys
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import anyio
import msgspec
import outcome
import sniffio
import trio

from tinker_rl.envs.answers import answer_of
from tinker_rl.envs.blocking import call_env
from tinker_rl.envs.error_reports import is_ours
from tinker_rl.errors import RequestError
from tinker_rl.policies import present_episode
from tinker_rl.rl.builder_calls import GROUP_ITSELF
from tinker_rl.testing.cancellation.stacks import DRIVERS, await_chain, is_library

__all__ = [
    "THE_POLICY",
    "AwaitPoint",
    "Director",
    "Driven",
    "GivenUp",
    "TaskDriver",
    "driven_by",
    "driving",
    "has_given_up",
]

THE_POLICY = "the policy"
"""What `AwaitPoint.method` says where the policy is asked."""

MAX_CANCELLATIONS = 200
"""So often may code be cancelled and wait again, before it counts as one that never ends."""


class GivenUp(BaseException):
    """Thrown into code that does not end when it is cancelled."""


class AwaitPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One place, and time, at which an episode waited."""

    number: int
    """Its place in the order of an episode that is not cancelled: `at` of `cancel_everywhere`."""
    member: int
    """Whose episode; `GROUP_ITSELF` for what belongs to none."""
    turn: int
    """How many points of the same member came before."""
    method: str
    """What was called."""
    place: str
    """`file:line` of the innermost line of the user's; empty if there is none."""
    acting: str = ""
    """What the policy wrote, where groups are played with one thing and another."""

    def __str__(self) -> str:
        whose = "" if self.member == GROUP_ITSELF else f" of member {self.member}"
        acting = self.acting and f" with {self.acting}"
        place = self.place and f" ({self.place})"
        return f"point {self.number}{acting}, in {self.method}{whose}{place}"

    @property
    def source(self) -> str:
        """The line that waited."""
        file, _, line = self.place.rpartition(":")
        return linecache.getline(file, int(line)).strip() if line.isdigit() else ""


class Director:
    """Counts the points of one rollout, and strikes at one of them.

    Args:
        target: (member, turn) of the point to strike at; None: none, only count.
    """

    def __init__(self, target: tuple[int, int] | None = None) -> None:
        self.target = target
        self.points: list[AwaitPoint] = []
        self.scope: anyio.CancelScope | None = None
        """What is cancelled."""
        self.struck: AwaitPoint | None = None
        """Where it was cancelled, if it was."""
        self.swallowed: list[str] = []
        """What became of cancellations that did not end what they were thrown into."""
        self.swallowed_at: set[str] = set()
        """Lines of which that is told; a call around the one that did it is not to blame, too."""
        self.stepping: list[Driven] = []
        """Drivers whose code runs now, the innermost last."""
        self.suspended: set[Driven] = set()
        self.waited_in: set[str] = set()
        """Every method that has waited, those around the innermost one included."""
        self._turns: dict[int, int] = {}

    def arrive(self, driven: Driven) -> None:
        """A task suspends: count it and, if this is the point, cancel."""
        frames = await_chain(driven.coroutine)
        found = _place(frames, driven.is_users)
        if found is None:
            return
        self.waited_in.update(_called(f) for f in frames if f.f_code is answer_of.__code__)
        member = _present_member()
        turn = self._turns.get(member, 0)
        self._turns[member] = turn + 1
        point = AwaitPoint(
            number=len(self.points), member=member, turn=turn, method=found[0], place=found[1]
        )
        self.points.append(point)
        if self.struck is None and self.target == (member, turn) and self.scope is not None:
            self.struck = point
            self.scope.cancel()


class Driven:
    """Steps a coroutine by hand, so that its suspensions are seen.

    Args:
        coroutine: What runs.
        director: Is told of each suspension.
        is_users: Whether all of it is the user's code.
        is_method: Whether it is a call of the user's, watched for swallowed cancellations; the
            suspensions are those of a task that is driven itself.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        director: Director,
        *,
        is_users: bool = False,
        is_method: bool = False,
        name: str = "",
    ) -> None:
        self.coroutine = coroutine
        self.is_users = is_users
        self.name = name
        self.is_method = is_method
        self.started_at = ""
        """`file:line` of the user's code that started the task; empty if there is none."""
        self.native_task: Any = None
        """What the event loop runs."""
        self.is_reached = False
        """Whether the director's cancellation reaches the place where the task is suspended."""
        self._director = director
        self._task = self
        self._num_cancelled = 0
        self._cancelled_in = ("", "")

    def __await__(self) -> Generator[Any, Any, Any]:
        driven = self.coroutine  # `await_chain` finds it by this name
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                trap = self._step(driven, value, error)
            except StopIteration as stop:
                self._ended(None)
                return stop.value
            except BaseException as raised:
                self._ended(raised)
                raise
            self._suspends()
            try:
                value, error = (yield trap), None
            except GeneratorExit:
                driven.close()
                raise
            except BaseException as raised:  # this is how asyncio cancels
                value, error = None, raised
            self._director.suspended.discard(self)
            thrown = value.error if isinstance(value, outcome.Error) else error  # and so does trio
            if thrown is not None:
                self._thrown(thrown)

    def _step(
        self, coroutine: Coroutine[Any, Any, Any], value: Any, error: BaseException | None
    ) -> Any:
        stepping = self._director.stepping
        if self.is_method:
            self._task = next((one for one in reversed(stepping) if not one.is_method), self)
        stepping.append(self)
        try:
            return coroutine.send(value) if error is None else coroutine.throw(error)
        finally:
            stepping.pop()

    def _suspends(self) -> None:
        """Tell the director, and note whether the cancellation that it asked for gets here."""
        if self.is_method:
            return
        self.native_task = _current_task()
        director = self._director
        director.suspended.add(self)
        director.arrive(self)
        was_cancelled = director.scope is not None and director.scope.cancel_called
        self.is_reached = was_cancelled and anyio.current_effective_deadline() == -math.inf

    def _thrown(self, error: BaseException) -> None:
        if not (self._task.is_reached and isinstance(error, anyio.get_cancelled_exc_class())):
            return
        if self._num_cancelled == 0:
            self._cancelled_in = self._where()
        self._num_cancelled += 1
        if self._num_cancelled > MAX_CANCELLATIONS:
            self._director.swallowed.append(
                f"{self.where()} is cancelled again and again, and never ends"
            )
            _abandoned.append(self.coroutine)
            raise GivenUp

    def _ended(self, error: BaseException | None) -> None:
        if not (self.is_method and self._num_cancelled) or has_given_up(error):
            return
        if error is None:
            self._swallows("caught the cancellation and went on")
        elif not _holds(error, anyio.get_cancelled_exc_class()):
            name = type(error).__name__
            self._swallows(f"raised {name} in place of the cancellation: {error}")

    def _swallows(self, what: str) -> None:
        name, place = self._cancelled_in
        told = self._director.swallowed_at
        if place and place in told:
            return
        told.add(place)
        self._director.swallowed.append(f"{name}{place and f' ({place})'} {what}")

    @property
    def waits_in_users_code(self) -> bool:
        """Whether the task is suspended in code of the user's."""
        return _place(await_chain(self.coroutine), self.is_users) is not None

    def where(self) -> str:
        """What runs and the line of the user's at which it is suspended."""
        name, place = self._where()
        return f"{name}{place and f' ({place})'}"

    def _where(self) -> tuple[str, str]:
        found = _place(await_chain(self.coroutine), is_users=True)
        name, place = ("a task", "") if found is None else found
        return self.name or name, place


DRIVERS.add(Driven.__await__.__code__)

_abandoned: list[Any] = []
"""Coroutines that cannot be ended; kept, because their destruction would complain."""


async def _drive(driven: Driven) -> Any:
    return await driven


def driven_by(coroutine: Any) -> Driven | None:
    """The driver of what a task runs; None if the task was started unseen."""
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None or frame.f_code is not _drive.__code__:
        return None
    return frame.f_locals["driven"]


class TaskDriver(trio.abc.Instrument):
    """On trio: puts a driver around every task, before its first step."""

    def __init__(self) -> None:
        self.director: Director | None = None

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if self.director is not None:
            task.coro = _drive(_driven(task.coro, self.director))


@contextmanager
def driving(director: Director, on_trio: TaskDriver) -> Generator[None]:
    """Drive the tasks that are started inside."""
    if sniffio.current_async_library() == "trio":
        on_trio.director = director
        try:
            yield
        finally:
            on_trio.director = None
        return
    loop = asyncio.get_running_loop()

    def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        return asyncio.Task(_drive(_driven(coroutine, director)), loop=loop, **options)

    loop.set_task_factory(make_task)
    try:
        yield
    finally:
        loop.set_task_factory(None)


def _driven(coroutine: Any, director: Director) -> Driven:
    frames = _starting_frames()
    in_users = bool(director.stepping) and director.stepping[-1].is_users
    in_call = any(frame.f_code is answer_of.__code__ for frame in frames)
    driven = Driven(coroutine, director, is_users=in_users or in_call)
    if driven.is_users:
        driven.started_at = _users_line(frames)
    return driven


def _starting_frames() -> list[FrameType]:
    """The frames of the task, or of the callback, that starts another one; the outermost first.

    Not the caller's: a frame that holds itself would keep alive what the user's frames hold.
    """
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code is not anyio.run.__code__:
        if frame.f_code in DRIVERS and not _is_method_frame(frame):
            break
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _is_method_frame(frame: FrameType) -> bool:
    driven = frame.f_locals.get("self")
    return isinstance(driven, Driven) and driven.is_method


def _place(frames: list[FrameType], is_users: bool) -> tuple[str, str] | None:
    """(what was called, file:line of the user's) of a suspended task; None if it is all ours."""
    calls = [i for i, frame in enumerate(frames) if frame.f_code is answer_of.__code__]
    if calls:
        return _called(frames[calls[-1]]), _users_line(frames[calls[0] + 1 :])
    if is_users and frames:
        return (_users(frames) or frames)[0].f_code.co_qualname, _users_line(frames)
    codes = {frame.f_code: frame for frame in frames}
    if call_env.__code__ in codes:
        called = codes[call_env.__code__].f_locals
        return f"{type(called['env']).__name__}.{called['method']}, elsewhere", ""
    if any(frame.f_code.co_qualname == "_Episode._act" for frame in frames):
        return THE_POLICY, ""
    return None


def _called(frame: FrameType) -> str:
    """Which method a frame of `answer_of` calls."""
    called = frame.f_locals
    return f"{type(called['owner']).__name__}.{called['method']}"


def _users(frames: list[FrameType]) -> list[FrameType]:
    """Those of code that is neither ours nor a library's."""
    return [f for f in frames if not (is_ours(f.f_code.co_filename) or is_library(f))]


def _users_line(frames: list[FrameType]) -> str:
    """Of the innermost frame of the user's; else of the innermost that is not of a library."""
    own = [frame for frame in frames if frame.f_code not in DRIVERS]
    chosen = _users(own) or [frame for frame in own if not is_library(frame)]
    return f"{chosen[-1].f_code.co_filename}:{chosen[-1].f_lineno}" if chosen else ""


def _present_member() -> int:
    try:
        return present_episode().key.member
    except RequestError:
        return GROUP_ITSELF


def _current_task() -> Any:
    if sniffio.current_async_library() == "trio":
        return trio.lowlevel.current_task()
    return asyncio.current_task()


def has_given_up(error: BaseException | None) -> bool:
    """Whether an error is, or holds, what was thrown into code that does not end."""
    return _holds(error, GivenUp)


def _holds(error: BaseException | None, kind: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_holds(inner, kind) for inner in error.exceptions)
    return isinstance(error, kind)
