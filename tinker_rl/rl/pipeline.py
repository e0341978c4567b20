"""The one pipeline: groups roll out side by side, and train in the order the window gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

import anyio

from tinker_rl.rl.timeline import NO_TIMELINE, Timeline
from tinker_rl.rl.window import Commit, Minibatch, Ticket, Window

__all__ = ["run_pipeline"]

R = TypeVar("R")


async def run_pipeline(
    window: Window[R],
    roll_out: Callable[[Ticket], Awaitable[R]],
    learn: Callable[[Minibatch[R]], Awaitable[Commit | None]],
    max_concurrent_groups: int,
    timeline: Timeline = NO_TIMELINE,
) -> None:
    """Roll out every group that `window` admits, and learn from every minibatch it hands out.

    Cancelled, it drops the groups in flight and those finished but not yet learned from.

    Args:
        window: What may start, and what trains together. It starts without groups in flight.
        roll_out: Gives a group's result. What it raises ends the pipeline.
        learn: Trains on a minibatch; returns what it committed, or None.
        max_concurrent_groups: Most calls of `roll_out` at a time.
        timeline: Is told what groups wait for before they start.
    """
    send_group, recv_group = anyio.create_memory_object_stream[tuple[int, R]](0)
    workers = anyio.Semaphore(max_concurrent_groups)
    published = _Signal()

    async def roll_out_one(ticket: Ticket) -> None:
        result = await roll_out(ticket)
        workers.release()  # now: a group that waits for a busy learner keeps no other from starting
        await send_group.send((ticket.group, result))

    async def feed() -> None:
        async with send_group, anyio.create_task_group() as rollouts:
            while not window.is_exhausted:
                # A free worker first: a group is admitted when it starts, with the weights of then.
                group = window.next_group
                waiting = timeline.waiting("admission", "waits for a free place", group=group)
                with nullcontext() if workers.value else waiting:
                    await workers.acquire()
                if not window.is_admissible:
                    version = window.version_awaited
                    facts = {"group": group, "version": version}
                    with timeline.waiting("admission", f"waits for version {version}", **facts):
                        while not window.is_admissible:
                            await published.wait()
                rollouts.start_soon(roll_out_one, window.admit())

    def take_in_what_is_finished() -> None:
        while recv_group.statistics().tasks_waiting_send:
            window.finish(*recv_group.receive_nowait())

    async def learn_what_is_ready() -> None:
        while (minibatch := window.next_minibatch()) is not None:
            commit = await learn(minibatch)
            if commit is not None:
                window.publish(commit)
                published.set()
            take_in_what_is_finished()

    async def learn_in_order() -> None:
        await learn_what_is_ready()  # of groups that an earlier start finished
        async for group, result in recv_group:
            window.finish(group, result)
            await learn_what_is_ready()

    # Open to the end: what `learn` raises is no broken channel to the groups that wait for it.
    async with recv_group, anyio.create_task_group() as tasks:
        tasks.start_soon(feed)
        tasks.start_soon(learn_in_order)


class _Signal:
    """Wakes whoever waits, each time it is set."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Until it is set the next time."""
        await self._event.wait()

    def set(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = anyio.Event()
