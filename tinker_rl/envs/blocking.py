"""Calls of environments: in the event loop, in a thread or in a process, as the environment says.

A call that blocks in the event loop holds up every other episode. In a thread it holds up nobody
while it waits (for a file, a socket, a subprocess); in a process, nobody while it computes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel
import msgspec

from tinker_rl.envs.answers import answer_of
from tinker_rl.envs.process_calls import call_in_process
from tinker_rl.envs.thread_calls import ThreadCall
from tinker_rl.errors import UnknownNameError, choices

__all__ = ["CallSettings", "RunsIn", "call_env", "use_call_settings"]

RunsIn: TypeAlias = Literal["loop", "thread", "process"]
"""Where the methods of an environment run."""


class CallSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of an episode are made."""

    max_threads: int = 64
    """Calls in threads at a time, over all episodes of the event loop."""
    max_processes: int | None = None
    """Calls in processes at a time; None: one a core."""
    waiting: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    """Entered while a call waits for its turn: that time is not the environment's own."""


_BY_HAND = CallSettings()
_settings: ContextVar[CallSettings] = ContextVar("tinker_rl_env_calls", default=_BY_HAND)


def use_call_settings(settings: CallSettings) -> None:
    """Make the calls of this task, and of the tasks that it starts from now on, in this way."""
    _settings.set(settings)


async def call_env(env: Any, method: str, /, *args: Any, **options: Any) -> Any:
    """Call a method of an environment where its `runs_in` says.

    Threads and processes run asyncio, whatever this loop is, so that libraries which know nothing
    else can be awaited there.

    Cancelled, a thread is abandoned: what it awaits is cancelled, what blocks goes on unheard. A
    process is killed. In both cases the environment is of no use any more.

    Args:
        env: An `Env` or a `MessageEnv`.
        method: Name of one of its coroutine methods.
    Raises:
        UnknownNameError: if `runs_in` is anything else.
        RequestError: if the method is no coroutine function; or the environment runs in a process
            and cannot be pickled.
        EnvError: if its process died.
    """
    runs_in = getattr(env, "runs_in", "loop")
    if runs_in == "loop":
        return await answer_of(env, method, *args, **options)
    settings = _settings.get()
    if runs_in == "thread":
        async with _turn(settings, "thread", settings.max_threads):
            context = copy_context()
            context.run(
                _settings.set, msgspec.structs.replace(settings, waiting=contextlib.nullcontext)
            )
            return await ThreadCall(
                partial(answer_of, env, method, *args, **options), context
            ).result()
    if runs_in == "process":
        async with _turn(settings, "process", settings.max_processes or os.cpu_count() or 1):
            return await call_in_process(env, method, args, options)
    raise UnknownNameError(
        f"{type(env).__name__}.runs_in: expected where its methods run; got {runs_in!r}."
        f"{choices(str(runs_in), ('loop', 'thread', 'process'))}"
    )


_limiters: anyio.lowlevel.RunVar[dict[tuple[str, int], anyio.CapacityLimiter]] = (
    anyio.lowlevel.RunVar("tinker_rl_env_limiters")
)


@contextlib.asynccontextmanager
async def _turn(settings: CallSettings, kind: str, size: int) -> AsyncGenerator[None]:
    """One of `size` turns; not anyio's own, so that journals and torch do not wait for them."""
    limiters = _limiters.get({})
    _limiters.set(limiters)
    limiter = limiters.setdefault((kind, size), anyio.CapacityLimiter(size))
    caller = object()
    with settings.waiting():
        await limiter.acquire_on_behalf_of(caller)
    try:
        yield
    finally:
        limiter.release_on_behalf_of(caller)
