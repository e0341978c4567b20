"""Virtual time: how far it goes, that it is exact, and that threads do not upset it."""

import asyncio
import contextlib
import signal
import socket
import threading
import time

import anyio
import anyio.to_process
import anyio.to_thread
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.completers import ScriptedTokenCompleter
from tinker_rl.envs import Env, ProblemGroupBuilder, StepResult
from tinker_rl.errors import UnknownNameError
from tinker_rl.futures import Promise
from tinker_rl.policies import EpisodeKey
from tinker_rl.rl import (
    Completed,
    EnvFailure,
    RolledOutGroup,
    RolloutLimits,
    do_group_rollout,
    do_single_rollout,
)
from tinker_rl.rl.pipeline import run_pipeline
from tinker_rl.rl.window import Commit, Window
from tinker_rl.testing.clock import run_in_virtual_time, virtual_clock
from tinker_rl.testing.completers.faults import DelayedCompleter
from tinker_rl.types import ModelInput

HOUR = 3600


async def seconds_of(function, *args):
    began = anyio.current_time()
    await function(*args)
    return anyio.current_time() - began


@settings(max_examples=25)
@given(seconds=st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_sleep_takes_exactly_as_long_as_it_says(backend, seconds):
    async def main():
        woken = []
        async with anyio.create_task_group() as tasks:

            async def sleep(how_long):
                await anyio.sleep(how_long)
                woken.append(anyio.current_time() - began)

            began = anyio.current_time()
            for how_long in seconds:
                tasks.start_soon(sleep, how_long)
        return woken

    assert run_in_virtual_time(main, backend=backend) == sorted(seconds)


def test_deadlines_pass_in_virtual_time(backend):
    async def main():
        with anyio.move_on_after(HOUR) as scope:
            await anyio.sleep(2 * HOUR)
        return scope.cancelled_caught, anyio.current_time()

    caught, now = run_in_virtual_time(main, backend=backend)
    assert caught
    assert now >= HOUR


@pytest.mark.parametrize("wait", ["thread", "process", "future", "asyncio"])
def test_time_stands_still_while_a_thread_or_a_process_works(wait, backend):
    """A deadline of a millisecond does not pass, nor do the hours of whoever sleeps beside it."""
    if wait == "asyncio" and backend == "trio":
        pytest.skip("asyncio.to_thread needs asyncio")

    async def work():
        if wait == "process":
            return await anyio.to_process.run_sync(max, 41, 42)
        if wait == "thread":
            return await anyio.to_thread.run_sync(lambda: time.sleep(0.05) or 42)
        if wait == "asyncio":
            return await asyncio.to_thread(lambda: time.sleep(0.05) or 42)
        promise = Promise()
        thread = threading.Thread(target=lambda: time.sleep(0.05) or promise.resolve(42))
        thread.start()
        return await promise.future

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, HOUR)
            began = anyio.current_time()
            with anyio.fail_after(0.001):
                assert await work() == 42
            passed = anyio.current_time() - began
            tasks.start_soon(anyio.sleep, 3 * HOUR)
        return passed, anyio.current_time() - began

    assert run_in_virtual_time(main, backend=backend) == (0, 3 * HOUR)


@contextlib.contextmanager
def server_that_answers_after(seconds):
    """The port of a server in a thread, which answers after so many real seconds."""

    def answer(connection):
        with connection:
            connection.recv(1)
            time.sleep(seconds)
            with contextlib.suppress(OSError):
                connection.send(b"y")

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],)).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


async def ask(port):
    async with await anyio.connect_tcp("localhost", port) as stream:
        await stream.send(b"x")
        return await stream.receive()


async def end_a_process():
    async with await anyio.open_process(["sleep", "30"], stdout=None, stdin=None) as process:
        process.terminate()
        return await process.wait()


async def read_from_a_process():
    return (await anyio.run_process(["echo", "hi"])).stdout


@pytest.mark.parametrize(
    ("wait", "answer"),
    [("socket", b"y"), ("process", -signal.SIGTERM), ("pipe", b"hi\n")],
)
def test_no_time_is_leapt_over_while_the_world_answers(wait, answer, backend):
    """An hour would be, at once; and afterwards it is."""

    async def main(port):
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(HOUR):
                match wait:
                    case "socket":
                        got = await ask(port)
                    case "process":
                        got = await end_a_process()
                    case _:
                        got = await read_from_a_process()
            tasks.start_soon(anyio.sleep, HOUR)
        return got, anyio.current_time() >= HOUR

    with server_that_answers_after(0.05) as port:
        assert run_in_virtual_time(main, port, backend=backend) == (answer, True)


def test_a_server_that_never_answers_meets_limits_in_real_time(backend):
    async def main(port):
        with anyio.move_on_after(0.05) as scope:
            await ask(port)
        return scope.cancelled_caught

    with server_that_answers_after(0.5) as port:
        assert run_in_virtual_time(main, port, backend=backend)


def test_a_connection_that_is_kept_open_holds_up_nobody(backend):
    async def main(port):
        async with (
            await anyio.connect_tcp("127.0.0.1", port),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(anyio.sleep, HOUR)
        return anyio.current_time() >= HOUR

    with server_that_answers_after(0) as port:
        assert run_in_virtual_time(main, port, backend=backend)


def test_what_waits_for_ever_is_found_at_once(backend):
    with pytest.raises(TimeoutError, match="sleep_forever to end within 2592000 virtual seconds"):
        run_in_virtual_time(anyio.sleep_forever, backend=backend)
    with pytest.raises(TimeoutError, match="within 5 virtual"):
        run_in_virtual_time(anyio.sleep, 6, backend=backend, max_seconds=5)


def test_errors_and_results_come_through(backend):
    async def give(value):
        return value

    async def fail():
        raise KeyError("mine")

    assert run_in_virtual_time(give, 3, backend=backend) == 3
    with pytest.raises(KeyError, match="mine"):
        run_in_virtual_time(fail, backend=backend)


def test_the_clock_of_the_machine_goes_on():
    async def main():
        before = time.monotonic()
        await anyio.sleep(HOUR)
        return time.monotonic() - before

    assert run_in_virtual_time(main) < HOUR / 2


def test_what_comes_from_outside_is_taken_before_time_passes():
    async def main():
        ready = asyncio.Event()
        asyncio.get_running_loop().call_soon_threadsafe(ready.set)
        with anyio.fail_after(0.001):
            await ready.wait()

    run_in_virtual_time(main, backend="asyncio")


def test_the_options_are_those_of_a_run():
    assert (
        anyio.run(seconds_of, anyio.sleep, HOUR, backend_options=virtual_clock("asyncio")) == HOUR
    )
    assert (
        anyio.run(
            seconds_of, anyio.sleep, HOUR, backend="trio", backend_options=virtual_clock("trio")
        )
        == HOUR
    )
    assert trio.run(seconds_of, trio.sleep, HOUR, **virtual_clock()) == HOUR
    with pytest.raises(UnknownNameError, match="expected a backend of anyio; got 'triio'"):
        virtual_clock("triio")


class SlowEnv(Env):
    """Every step takes an hour."""

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        await anyio.sleep(HOUR)
        return StepResult(1.0, True, ModelInput.empty(), [0])


class ThreadEnv(SlowEnv):
    runs_in = "thread"

    async def step(self, action):
        time.sleep(0.02)  # noqa: ASYNC251
        return StepResult(1.0, True, ModelInput.empty(), [0])


def answers():
    return ScriptedTokenCompleter(lambda prompt: [0])


def test_an_episode_a_group_and_its_limits_run_in_it(backend):
    patient = RolloutLimits(max_step_seconds=2 * HOUR)
    key = EpisodeKey(run_seed=0, group=0)
    one = run_in_virtual_time(do_single_rollout, answers(), SlowEnv(), patient, backend=backend)
    assert isinstance(one, Completed)
    late = run_in_virtual_time(do_single_rollout, answers(), SlowEnv(), backend=backend)
    assert isinstance(late, EnvFailure)
    assert late.error_type == "TimeoutError"
    actor = DelayedCompleter(answers(), HOUR)
    builder = ProblemGroupBuilder(SlowEnv, num_envs=100)
    group = run_in_virtual_time(do_group_rollout, builder, actor, key, patient, backend=backend)
    assert isinstance(group, RolledOutGroup)
    assert group.times.seconds == 2 * HOUR
    assert group.times.env_seconds == group.times.sample_seconds == 100 * HOUR


def test_environments_in_threads_are_not_too_slow_in_it(backend):
    limits = RolloutLimits(max_step_seconds=0.001)  # which no real time fits in
    key = EpisodeKey(run_seed=0, group=0)
    builder = ProblemGroupBuilder(ThreadEnv, num_envs=2)
    group = run_in_virtual_time(do_group_rollout, builder, answers(), key, limits, backend=backend)
    assert isinstance(group, RolledOutGroup), group
    assert group.times.seconds == 0


def test_a_pipeline_of_slow_groups_runs_in_it(backend):
    """Six groups of an hour each in batches of two, and a minute to learn from each batch."""
    learned = []

    async def roll_out(ticket):
        await anyio.sleep(HOUR)
        return ticket.group

    async def learn(minibatch):
        await anyio.sleep(60)
        learned.append(minibatch.results)
        return Commit(version=len(learned), acting_version=len(learned))

    async def main():
        await run_pipeline(Window(2, 0, 3), roll_out, learn, 8)
        return anyio.current_time()

    assert run_in_virtual_time(main, backend=backend) == pytest.approx(3 * (HOUR + 60))
    assert learned == [(0, 1), (2, 3), (4, 5)]
