import os
import signal

import anyio
import pytest

from tinker_rl.rl.interrupts import only_error, watch_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_event_and_no_exception(backend, number):
    async def go():
        seen = anyio.Event()
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch_signals, seen.set)
            os.kill(os.getpid(), number)
            with anyio.fail_after(20):
                await seen.wait()
            tasks.cancel_scope.cancel()

    anyio.run(go, backend=backend)


def test_other_threads_get_no_signals_and_do_without(backend):
    async def go():
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch_signals, lambda: None)

    async def in_a_thread():
        await anyio.to_thread.run_sync(lambda: anyio.run(go, backend=backend))

    anyio.run(in_a_thread, backend=backend)


def test_an_error_alone_loses_its_wrapping_and_several_stay_together():
    first, second = ValueError(1), KeyError(2)
    group = ExceptionGroup("inner", [first, second])
    assert only_error(ExceptionGroup("a", [ExceptionGroup("b", [first])])) is first
    assert only_error(ExceptionGroup("a", [group])) is group
    assert only_error(group) is group
