import concurrent.futures
import gc
import threading
import time
import weakref

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.futures import APIFuture, Promise, wait_for
from tinker_rl.types import LogprobList, OptimStepResponse

LOOPS = ("trio", "asyncio")


def soon(function, *args, seconds=0.02):
    """Call it from another thread, a moment later."""
    timer = threading.Timer(seconds, function, args)
    timer.start()
    return timer


# ---------------------------------------------------------------------------------- who may wait


@given(
    waiters=st.lists(st.sampled_from(["thread", *LOOPS]), max_size=6),
    late=st.booleans(),
    fails=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_all_waiters_get_the_result(waiters, late, fails):
    promise: Promise[int] = Promise()
    got = []

    def note(wait):
        try:
            got.append(wait())
        except KeyError as error:
            got.append(error)

    def wait_in(kind):
        if kind == "thread":
            note(promise.future.result)
        else:

            async def main():
                return await promise.future

            note(lambda: anyio.run(main, backend=kind))

    threads = [threading.Thread(target=wait_in, args=(kind,)) for kind in waiters]
    error = KeyError("x")
    if not late:
        for thread in threads:
            thread.start()
    promise.fail(error) if fails else promise.resolve(7)
    if late:
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert got == [error if fails else 7] * len(waiters)


def test_many_tasks_of_one_loop_wait_for_one_future(backend):
    promise: Promise[int] = Promise()
    got = []

    async def main():
        async def wait():
            got.append(await promise.future.result_async())

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert got == []
            soon(promise.resolve, 3)

    anyio.run(main, backend=backend)
    assert got == [3] * 50


def test_ten_thousand_waiting_futures_start_no_thread(backend):
    promises = [Promise() for _ in range(10_000)]
    total = 0

    async def main():
        nonlocal total

        async def wait(future):
            nonlocal total
            value = await future
            total += value

        before = threading.active_count()
        async with anyio.create_task_group() as tasks:
            for promise in promises:
                tasks.start_soon(wait, promise.future)
            await anyio.wait_all_tasks_blocked()
            assert threading.active_count() <= before  # others may end meanwhile

            def resolve_all():
                for number, promise in enumerate(promises):
                    promise.resolve(number)

            resolver = threading.Thread(target=resolve_all)
            resolver.start()
        resolver.join()

    anyio.run(main, backend=backend)
    assert total == sum(range(10_000))


def test_a_future_may_be_awaited_again_and_from_another_loop():
    promise: Promise[list[int]] = Promise()
    value = [1]
    promise.resolve(value)

    async def main():
        return await promise.future is await promise.future is await promise.future.coroutine()

    assert anyio.run(main, backend="trio")
    assert anyio.run(main, backend="asyncio")
    assert promise.future.result() is promise.future.future().result() is value
    assert promise.future.done()


@pytest.mark.parametrize("result", [OptimStepResponse(), LogprobList([None, -1.0])])
def test_a_result_awaited_gives_itself(backend, result):
    async def main():
        return await result

    assert anyio.run(main, backend=backend) is result


# -------------------------------------------------------------------- timeouts and cancellations


@pytest.fixture
def abandoned():
    """A promise that notes when nobody waits for it any more."""
    calls = []
    promise: Promise[int] = Promise(lambda: calls.append("abandoned"))
    promise.calls = calls
    return promise


def test_a_timeout_in_a_thread_leaves_the_request(abandoned):
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        abandoned.future.result(0.05)
    with pytest.raises(TimeoutError):
        abandoned.future.result(timeout=0.0)
    assert time.monotonic() - started < 10
    assert abandoned.calls == []
    abandoned.resolve(5)
    assert abandoned.future.result(0.01) == 5


def test_a_timeout_in_a_loop_gives_the_request_up(backend, abandoned):
    async def main():
        with pytest.raises(TimeoutError):
            await abandoned.future.result_async(timeout=0.02)
        assert abandoned.calls == ["abandoned"]
        soon(abandoned.resolve, 5)  # but it may be answered all the same
        assert await abandoned.future.result_async(5.0) == 5
        assert await abandoned.future.result_async(0.0) == 5

    anyio.run(main, backend=backend)
    assert abandoned.calls == ["abandoned"]


@given(tasks=st.integers(1, 4), cancelled=st.integers(0, 4), threads=st.integers(0, 2))
@settings(max_examples=12, deadline=None)
def test_a_request_is_given_up_with_its_last_waiter(tasks, cancelled, threads):
    calls, got = [], []
    promise: Promise[int] = Promise(lambda: calls.append(len(got)))
    cancelled = min(cancelled, tasks)
    blocked = [
        threading.Thread(target=lambda: got.append(promise.future.result())) for _ in range(threads)
    ]
    for thread in blocked:
        thread.start()
    while promise.future._waiters < threads:
        time.sleep(0.001)

    async def main():
        async def wait(scope):
            with scope:
                got.append(await promise.future)

        async with anyio.create_task_group() as group:
            scopes = [anyio.CancelScope() for _ in range(tasks)]
            for scope in scopes:
                group.start_soon(wait, scope)
            await anyio.wait_all_tasks_blocked()
            for scope in scopes[:cancelled]:
                scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert calls == ([0] if cancelled == tasks and not threads else [])
            promise.resolve(1)

    anyio.run(main, backend="trio")
    for thread in blocked:
        thread.join(10)
    assert got == [1] * (tasks - cancelled + threads)


def test_an_error_of_the_request_is_no_abandonment(backend, abandoned):
    abandoned.fail(TimeoutError("of the request itself"))

    async def main():
        with pytest.raises(TimeoutError, match="of the request itself"):
            await abandoned.future

    anyio.run(main, backend=backend)
    assert abandoned.calls == []


def test_a_loop_that_has_ended_is_not_woken(backend):
    promise: Promise[int] = Promise()

    async def main():
        with anyio.move_on_after(0.01):
            await wait_for(promise.future.future())

    anyio.run(main, backend=backend)
    promise.resolve(1)  # its callback finds nobody
    assert promise.future.result() == 1


# ----------------------------------------------------------------------------- promises and maps


@given(settings_=st.lists(st.integers() | st.builds(KeyError), min_size=1, max_size=4))
@settings(deadline=None, max_examples=20)
def test_the_first_settlement_counts(settings_):
    promise: Promise[int] = Promise()
    for value in settings_:
        promise.fail(value) if isinstance(value, KeyError) else promise.resolve(value)
        assert promise.settled
    first = settings_[0]
    if isinstance(first, KeyError):
        assert promise.future.future().exception() is first
    else:
        assert promise.future.result() == first


def test_one_of_two_settlements_at_once_counts():
    for _ in range(50):
        promise: Promise[int] = Promise()
        ready = threading.Barrier(2)

        def settle(value, promise=promise, ready=ready):
            ready.wait()
            promise.resolve(value)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(settle, [1, 2]))
        assert promise.future.result() in (1, 2)


def test_a_mapped_future_has_the_result_of_the_function(backend):
    promise: Promise[int] = Promise()
    doubled = promise.future.map(lambda value: value * 2)
    failing = promise.future.map(lambda value: value // 0)
    assert not doubled.done()
    promise.resolve(4)
    assert doubled.result() == 8

    async def main():
        assert await doubled == 8
        with pytest.raises(ZeroDivisionError):
            await failing

    anyio.run(main, backend=backend)
    failed: Promise[int] = Promise()
    failed.fail(KeyError("x"))
    with pytest.raises(KeyError):
        failed.future.map(str).result()


def test_a_mapped_future_that_is_given_up_gives_the_request_up(backend, abandoned):
    async def main():
        with pytest.raises(TimeoutError):
            await abandoned.future.map(str).result_async(0.01)

    anyio.run(main, backend=backend)
    assert abandoned.calls == ["abandoned"]


def test_cancelling_the_inner_future_has_no_effect():
    promise: Promise[int] = Promise()
    assert not promise.future.future().cancel()
    assert not promise.future.map(str).future().cancel()
    promise.resolve(1)
    assert isinstance(promise.future, APIFuture)
    assert promise.future.result() == 1


def test_a_future_does_not_keep_what_was_made_of_its_result():
    """Whoever holds the request must not hold, say, the client that it was for."""

    class Client:
        pass

    promise = Promise()
    mapped = promise.future.map(lambda _: Client())
    promise.resolve(None)
    client = weakref.ref(mapped.result())
    assert client() is not None
    del mapped
    gc.collect()
    assert client() is None
