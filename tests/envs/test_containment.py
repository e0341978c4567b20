"""What a user's code leaves open ends with it, and breaks nobody else."""

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tinker_rl.envs.containment import (
    CancelledInsideError,
    LeakedTaskError,
    OutOfTimeError,
    contained,
)


def run(function, *args, backend):
    options = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    return anyio.run(function, *args, backend=backend, backend_options=options)


class Leak:
    """Opens something, and leaves it."""

    def __init__(self, kind):
        self.kind = kind
        self.ended = anyio.Event()

    async def __call__(self, scope):
        if self.kind == "scope":
            anyio.CancelScope().__enter__()
        elif self.kind == "cancelled scope":
            inner = anyio.CancelScope()
            inner.__enter__()
            inner.cancel()
            await anyio.lowlevel.checkpoint()
        else:
            tasks = await anyio.create_task_group().__aenter__()
            tasks.start_soon(self.child)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        if self.kind == "raises beside":
            raise KeyError("lost")
        return "done"

    async def child(self):
        try:
            if self.kind == "child that raises":
                raise ValueError("child")
            await anyio.sleep_forever()
        finally:
            self.ended.set()


KINDS = ["scope", "cancelled scope", "task", "child that raises", "raises beside"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_open_is_an_error_and_its_tasks_are_cancelled(backend, kind):
    leak = Leak(kind)

    async def main():
        neighbours = []

        async def neighbour():
            await anyio.sleep(0.01)
            neighbours.append("well")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(neighbour)
            with pytest.raises(LeakedTaskError, match="still open"):
                await contained(leak)
            if "scope" not in kind:
                with anyio.fail_after(20):
                    await leak.ended.wait()
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
        return neighbours

    assert run(main, backend=backend) == ["well"]


async def returns(scope):
    return "done"


async def raises(scope):
    raise ValueError("bad")


async def exits(scope):
    raise SystemExit(3)


async def is_late(scope):
    scope.deadline = anyio.current_time() + 0.01
    await anyio.sleep_forever()


async def is_late_and_raises(scope):
    try:
        await is_late(scope)
    finally:
        raise ValueError("while cancelled")


async def is_late_and_says_nothing(scope):
    try:
        await is_late(scope)
    except anyio.get_cancelled_exc_class():
        return "done"


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (raises, ValueError),
        (exits, SystemExit),
        (is_late, OutOfTimeError),
        (is_late_and_raises, OutOfTimeError),
        (is_late_and_says_nothing, OutOfTimeError),
    ],
)
def test_what_goes_wrong_is_raised_as_itself(backend, function, error):
    with pytest.raises(error):
        run(contained, function, backend=backend)


def test_what_is_returned_is_given(backend):
    assert run(contained, returns, backend=backend) == "done"


def test_a_cancellation_from_inside_is_no_cancellation(backend):
    async def main():
        with anyio.CancelScope() as outer:

            async def cancels_itself(scope):
                if backend == "asyncio":
                    import asyncio

                    raise asyncio.CancelledError
                with anyio.CancelScope() as inner:
                    inner.cancel()
                    try:
                        await anyio.lowlevel.checkpoint()
                    except BaseException as cancelled:
                        error = cancelled
                raise error

            with pytest.raises(CancelledInsideError):
                await contained(cancels_itself)
        assert not outer.cancelled_caught

    run(main, backend=backend)


@given(
    schedule=st.random_module(),
    kind=st.sampled_from(KINDS),
    cancel_at=st.integers(0, 8),
    num_turns=st.integers(0, 3),
)
def test_cancelled_it_is_gone_whatever_was_left_open(schedule, kind, cancel_at, num_turns):
    leak = Leak(kind)

    async def leaks_slowly(scope):
        await leak(scope)
        for _ in range(num_turns):
            await anyio.lowlevel.checkpoint()

    async def main():
        async with anyio.create_task_group() as tasks:

            async def cancel():
                for _ in range(cancel_at):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel)
            try:
                await contained(leaks_slowly)
            except (LeakedTaskError, KeyError):
                await anyio.sleep_forever()

    for backend in ("trio", "asyncio"):
        run(main, backend=backend)
