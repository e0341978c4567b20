"""One run of `cancel_everywhere`: a group that is watched, cancelled at a point, and looked at."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import outcome
import sniffio
import trio

from tinker_rl.envs import Env, EnvGroupBuilder
from tinker_rl.envs.error_reports import place_of
from tinker_rl.envs.message_env import hears_early_end
from tinker_rl.errors import RequestError
from tinker_rl.policies import Actor, EpisodeKey
from tinker_rl.rl import DroppedGroup, RolloutLimits, do_group_rollout
from tinker_rl.testing.cancellation.any_actions import AnyActions
from tinker_rl.testing.cancellation.await_points import (
    AwaitPoint,
    Director,
    Driven,
    GivenUp,
    TaskDriver,
    driving,
    has_given_up,
)
from tinker_rl.testing.cancellation.held_locks import locks_of
from tinker_rl.testing.cancellation.inventory import Inventory, settled
from tinker_rl.testing.cancellation.leaks import (
    Leak,
    async_generators,
    late_closings,
    tasks,
)
from tinker_rl.testing.cancellation.stacks import step_awaits
from tinker_rl.testing.cancellation.subprocess_ends import closing_ends, ends_of
from tinker_rl.testing.cancellation.surroundings import fixed_order, quiet
from tinker_rl.testing.cancellation.threads import executors
from tinker_rl.testing.clock import virtual_clock

__all__ = ["CancelledRun", "Plan"]

PATIENCE = 6 * 3600.0
"""A group in which nothing waits anew for so many (virtual) seconds is given up; more where a
single call may take longer."""

MAX_POINTS = 100_000
"""So is one that waits more often than this."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs of one check share; the fields are arguments of `cancel_everywhere`."""

    builder: Any
    make_actor: Callable[[], Actor] | None
    acting: str = ""
    """What the actor writes, where groups are played with one thing and another."""
    backend: str
    seed: int
    limits: RolloutLimits
    borrowed: Callable[[], float] | None
    settle_seconds: float
    virtual_time: bool

    @property
    def is_fresh(self) -> bool:
        """Whether each run has a builder of its own."""
        is_builder = callable(getattr(self.builder, "make_envs", None))
        return not is_builder or isinstance(self.builder, type)

    def fresh_builder(self) -> EnvGroupBuilder:
        """The builder of one run."""
        return self.builder() if self.is_fresh else self.builder

    def actor(self) -> Actor:
        """Who acts in one run."""
        return AnyActions(self.seed) if self.make_actor is None else self.make_actor()


class CancelledRun:
    """Plays a group, cancels it at a point, and tells what is left.

    Args:
        plan: How to play.
        whole: A run that was not cancelled, for how much of each lock is taken then.
        point: Where to cancel; None: nowhere.
        cut_cleanup: Whether to cancel the clean-up alone, as when its time runs out.
    """

    def __init__(
        self,
        plan: Plan,
        whole: CancelledRun | None = None,
        point: AwaitPoint | None = None,
        *,
        cut_cleanup: bool = False,
    ) -> None:
        self._plan = plan
        self.actor = plan.actor()
        self._point = point
        self._cuts_cleanup = cut_cleanup
        self._director = Director(None if point is None else (point.member, point.turn))
        self._on_trio = TaskDriver()
        self._leaks: list[Leak] = []
        self._envs: list[Env] = []
        self._cleanups: list[str] = []
        self._refusal: RequestError | None = None
        self._whole_locks = {} if whole is None else whole.locks
        self.locks: dict[str, float] = {}
        """How much of each lock is taken at the end, by the name of the lock."""
        self.never_awaited: list[str] = []
        """Coroutines that never ran."""
        self.steps: dict[str, bool] = {}
        """Of the user's environments, each `step`, and whether it has an await."""

    @property
    def points(self) -> list[AwaitPoint]:
        """Where the group waited, in order."""
        return self._director.points

    @property
    def waited_in(self) -> set[str]:
        """Methods that have waited."""
        return self._director.waited_in

    @property
    def was_cancelled(self) -> bool:
        """Whether the point was met."""
        return self._director.struck is not None

    def play(self) -> list[Leak]:
        """Run it, and look. Returns what is wrong."""
        kept = executors()
        builder = self._plan.fresh_builder()
        locks_before = locks_of({"builder": builder})
        borrowed_before = self._borrowed()
        before = Inventory.take(kept)
        with ExitStack() as stack:
            late = stack.enter_context(late_closings())
            stack.enter_context(fixed_order(self._plan.seed))
            stack.enter_context(quiet())
            with _patched(builder, self._builder_methods(builder)):
                self._run(builder)
            if self._refusal is not None:
                raise self._refusal
            left = settled(before, self._plan.settle_seconds, kept)
            late.looks()
            ends = ends_of(left.children)
            self._leaks += left.leaks(ends)
            open_then = Inventory.take().descriptors
        self._leaks += late.leaks(ends, open_then)
        self.never_awaited = late.never_awaited
        self._look_at_cleanups()
        self._leaks += [Leak("swallowed", text) for text in self._director.swallowed]
        self._look_at_locks(builder, {key: taken for key, (_, taken) in locks_before.items()})
        more = self._borrowed() - borrowed_before
        if more:
            self._leaks.append(Leak("borrowed", f"{more:g} more are borrowed than before"))
        with late_closings():  # what is found open above is not told twice
            del builder
            self._envs.clear()
        return self._leaks

    def _borrowed(self) -> float:
        return 0.0 if self._plan.borrowed is None else float(self._plan.borrowed())

    def _run(self, builder: EnvGroupBuilder) -> None:
        options: dict[str, Any] = {}
        if self._plan.virtual_time:
            options = virtual_clock(self._plan.backend)
        if self._plan.backend == "trio":
            options["instruments"] = [*options.get("instruments", ()), self._on_trio]
        try:
            anyio.run(self._session, builder, backend=self._plan.backend, backend_options=options)
        except (Exception, BaseExceptionGroup, GivenUp) as error:
            if not self._has_given_up and not has_given_up(error):
                self._leaks.append(Leak("broken", f"the event loop ended with {_told(error)}"))

    # ------------------------------------------------------------------------ in the event loop

    _has_given_up = False

    async def _session(self, builder: EnvGroupBuilder) -> None:
        with async_generators() as unclosed:
            there = set(tasks())
            try:
                with driving(self._director, self._on_trio):
                    async with anyio.create_task_group() as watch:
                        watch.start_soon(self._give_up_later)
                        await self._group(builder)
                        watch.cancel_scope.cancel()
            finally:
                for _ in range(3):  # what is about to end ends
                    await anyio.lowlevel.cancel_shielded_checkpoint()
                left = {task: text for task, text in tasks().items() if task not in there}
                self._leaks += [Leak("task", text) for text in left.values()]
                self._leaks += unclosed()
                await closing_ends(self._plan.settle_seconds)

    async def _group(self, builder: EnvGroupBuilder) -> None:
        with anyio.CancelScope() as scope:
            if not self._cuts_cleanup:
                self._director.scope = scope
            outcome = await do_group_rollout(
                builder,
                self.actor,
                EpisodeKey(run_seed=self._plan.seed, group=0),
                self._plan.limits,
            )
            if self._point is None and isinstance(outcome, DroppedGroup):
                failure = outcome.failure
                at = getattr(failure, "location", "")
                self._leaks.append(
                    Leak(
                        "failed",
                        f"{failure.where} failed without any cancellation{at and f' ({at})'}: "
                        f"{failure.error_type}: {failure.error}",
                    )
                )

    async def _give_up_later(self) -> None:
        """Throw an error into what does not end, again and again."""
        hours = PATIENCE + 2 * (self._plan.limits.max_step_seconds or 0.0)
        seconds, num_points = hours, -1
        while True:
            await anyio.sleep(seconds)
            if num_points < len(self.points) < MAX_POINTS:
                num_points = len(self.points)
                continue
            self._has_given_up = True
            stuck = [driven for driven in self._director.suspended if _is_leaf(driven)]
            for driven in stuck:
                later = f"{hours / 3600:.0f} hours later"
                self._leaks.append(Leak("never ends", f"{driven.where()} still waits, {later}"))
                _throw_into(driven)
            seconds = 60.0

    # ------------------------------------------------------------------------------- watching

    def _builder_methods(self, builder: EnvGroupBuilder) -> dict[str, Any]:
        make_envs, cleanup = builder.make_envs, builder.cleanup
        rewards = builder.compute_group_rewards
        name = type(builder).__name__

        async def watched_make_envs() -> Sequence[Env]:
            envs = await self._watched(make_envs(), f"{name}.make_envs")
            self._envs += envs
            self._refusal = self._refusal or _refusal_of(envs)
            try:
                for env in [] if self._refusal else envs:
                    self._watch_env(env)
                    if isinstance(self.actor, AnyActions):
                        self.actor.write_for(env)
            except RequestError as error:
                self._refusal = error
            if self._refusal is not None:
                raise self._refusal
            return envs

        async def watched_rewards(*args: Any) -> Any:
            return await self._watched(rewards(*args), f"{name}.compute_group_rewards")

        async def watched_cleanup() -> None:
            self._cleanups.append("did not end")
            place = len(self._cleanups) - 1
            try:
                with anyio.CancelScope() as scope:
                    if self._cuts_cleanup:
                        self._director.scope = scope
                    await self._watched(cleanup(), f"{name}.cleanup")
                self._cleanups[place] = ""
            except anyio.get_cancelled_exc_class():
                seconds = self._plan.limits.cleanup_seconds
                self._cleanups[place] = f"took longer than {seconds:g} seconds (cleanup_seconds)"
                raise
            except Exception as error:
                self._cleanups[place] = f"raised {_told(error)}"
                raise

        return {
            "make_envs": watched_make_envs,
            "compute_group_rewards": watched_rewards,
            "cleanup": watched_cleanup,
        }

    def _watch_env(self, env: Any) -> None:
        """Watch the methods of an environment that run in this event loop."""
        message_env = getattr(env, "message_env", None)
        if message_env is not None:
            self._watch_env(message_env)
        if getattr(env, "runs_in", "loop") != "loop":
            return
        awaits = step_awaits(env)
        if awaits is not None:
            self.steps[f"{type(env).__name__}.step"] = awaits
        told = ("on_early_end",) if hears_early_end(env) else ()
        for name in ("initial_observation", "step", *told):
            method = getattr(env, name, None)
            if callable(method):
                _set(env, name, self._watching(method, f"{type(env).__name__}.{name}"))

    def _watching(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def watched(*args: Any, **options: Any) -> Any:
            return await self._watched(method(*args, **options), name)

        return watched

    async def _watched(self, answer: Any, name: str) -> Any:
        if not hasattr(answer, "cr_frame"):  # no coroutine: the engine says so
            return await answer
        return await Driven(answer, self._director, is_method=True, name=name)

    def _look_at_cleanups(self) -> None:
        if len(self._cleanups) != 1:
            self._leaks.append(Leak("cleanup", f"cleanup was called {len(self._cleanups)} times"))
        for state in self._cleanups:
            if state:
                self._leaks.append(Leak("cleanup", f"cleanup {state}"))

    def _look_at_locks(self, builder: EnvGroupBuilder, before: dict[int, float]) -> None:
        roots = {"builder": builder, **{f"envs[{i}]": env for i, env in enumerate(self._envs)}}
        for key, (name, taken) in locks_of(roots).items():
            self.locks[name] = taken
            expected = before.get(key, self._whole_locks.get(name, min(taken, 0.0)))
            if taken > expected:
                self._leaks.append(Leak("lock", f"{name} is still held"))


def _refusal_of(envs: Sequence[Any]) -> RequestError | None:
    """Why environments cannot be watched; None if they can."""
    inner = [getattr(env, "message_env", env) for env in envs]
    for env in [*envs, *inner]:
        if getattr(env, "runs_in", "loop") == "process":
            return RequestError(
                f"cancel_everywhere: expected environments in the event loop or in threads; got "
                f"{type(env).__name__}.runs_in = 'process', of which nothing can be seen from "
                "here. Check it with runs_in = 'loop'."
            )
    return None


@contextmanager
def _patched(owner: Any, methods: dict[str, Any]) -> Generator[None]:
    """Put methods in the place of an object's own, and take them away again."""
    for name, method in methods.items():
        _set(owner, name, method)
    try:
        yield
    finally:
        for name in methods:
            object.__delattr__(owner, name)


def _set(owner: Any, name: str, method: Any) -> None:
    try:
        object.__setattr__(owner, name, method)  # frozen dataclasses allow it in this way alone
    except AttributeError as error:
        raise RequestError(
            f"cancel_everywhere: expected a {type(owner).__name__} whose methods can be watched; "
            "got one with __slots__. Leave them out."
        ) from error


def _is_leaf(driven: Driven) -> bool:
    """Whether a task waits for nothing that it started."""
    task = driven.native_task
    if sniffio.current_async_library() != "trio":
        return driven.waits_in_users_code
    return not any(nursery.child_tasks for nursery in task.child_nurseries)


def _throw_into(driven: Driven) -> None:
    if sniffio.current_async_library() == "trio":
        trio.lowlevel.reschedule(driven.native_task, outcome.Error(GivenUp()))
    else:
        driven.native_task.cancel()


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_told(inner) for inner in error.exceptions)
    place = place_of(error)
    return f"{type(error).__name__}: {error}{place and f' ({place})'}"
