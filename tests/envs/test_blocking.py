"""Environments whose code blocks: in threads and processes, on the real clock."""

import os
import sys
import textwrap
import threading
import time

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.envs import (
    Env,
    EnvFromMessageEnv,
    MessageEnv,
    MessageStepResult,
    StepResult,
    current_rng,
    seeded_rng,
)
from tinker_rl.envs.blocking import CallSettings, call_env, use_call_settings
from tinker_rl.envs.error_reports import ReportedError
from tinker_rl.errors import EnvError, RequestError, UnknownNameError
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([1])

SCRATCH = """
    import asyncio, os, signal, sys, threading, time
    import anyio
    from tinker_rl.envs import Env, StepResult, current_rng
    from tinker_rl.types import ModelInput

    PROMPT = ModelInput.from_ints([1])

    class Counts(Env):
        runs_in = "process"

        def __init__(self):
            self.calls, self.drawn = [], []

        async def initial_observation(self):
            await anyio.sleep(0)
            await asyncio.sleep(0.01)
            self.calls.append(os.getpid())
            self.drawn.append(current_rng().random())
            return PROMPT, [0]

        async def step(self, action, *, extra=None):
            self.calls.append(os.getpid())
            self.drawn.append(current_rng().random())
            if action == [1]:
                raise ValueError("bad action")
            if action == [2]:
                time.sleep(1000)
            if action == [3]:
                os.kill(os.getpid(), signal.SIGKILL)
            if action == [4]:
                self.lock = threading.Lock()
            if action == [5]:
                sys.exit(3)
            return StepResult(float(action[0]), True, PROMPT, [0], logs={"extra": str(extra)})

    class Holds(Counts):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()
"""


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    """A module that worker processes can import too."""
    folder = tmp_path_factory.mktemp("envs")
    (folder / "scratch_envs.py").write_text(textwrap.dedent(SCRATCH))
    sys.path.insert(0, str(folder))
    import scratch_envs

    yield scratch_envs
    sys.path.remove(str(folder))


class Sleeps(Env):
    """Blocks its thread, wherever that is."""

    runs_in = "thread"

    def __init__(self, seconds=0.0, awaits=0.0):
        self.seconds = seconds
        self.awaits = awaits
        self.threads = []
        self.drawn = []
        self.num_ended = 0

    async def initial_observation(self):
        return await self.do((PROMPT, [0]))

    async def step(self, action, *, extra=None):
        return await self.do(StepResult(1.0, True, PROMPT, [0]))

    async def do(self, value):
        self.threads.append(threading.current_thread())
        time.sleep(self.seconds)  # noqa: ASYNC251
        self.drawn.append(current_rng().random())
        try:
            await anyio.sleep(self.awaits)
        finally:
            self.num_ended += 1
        return value


async def play(env, *actions):
    """All calls of an episode, and the threads that they ran in."""
    with seeded_rng(7):
        first = await call_env(env, "initial_observation")
        return first, [await call_env(env, "step", list(action)) for action in actions]


def test_a_thread_is_not_the_loops_and_draws_the_same_numbers_in_order(backend):
    drawn = {}
    for runs_in in ("loop", "thread"):
        env = Sleeps()
        env.runs_in = runs_in
        first, (result,) = anyio.run(play, env, [5], backend=backend)
        assert (first, result.reward) == ((PROMPT, [0]), 1.0)
        drawn[runs_in] = env.drawn
        is_loops = [thread is threading.main_thread() for thread in env.threads]
        assert is_loops == [runs_in == "loop"] * 2
        assert all(thread.daemon or thread is threading.main_thread() for thread in env.threads)
    assert drawn["thread"] == drawn["loop"]


def test_code_that_blocks_in_a_thread_holds_up_nobody_else(backend):
    """Five threads block at once, until the loop has gone on for a while."""
    all_block, goes_on = threading.Event(), threading.Event()
    together = threading.Barrier(5, action=all_block.set)

    class Blocks(Sleeps):
        async def step(self, action, *, extra=None):
            together.wait(30)
            assert goes_on.wait(30)
            return await super().step(action)

    async def main():
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(play, Blocks(), [5])
            num_ticks = 0
            while num_ticks < 20:
                await anyio.sleep(0.001)
                num_ticks += all_block.is_set()
            goes_on.set()

    anyio.run(main, backend=backend)


def test_turns_are_counted_and_waiting_for_one_is_not_the_environments_time(backend):
    running, most, waits, queued = [0], [0], [], []
    all_queued = threading.Event()

    class Counts(Sleeps):
        async def step(self, action, *, extra=None):
            running[0] += 1
            most[0] = max(most[0], running[0])
            assert all_queued.wait(30)
            time.sleep(0.02)  # noqa: ASYNC251
            running[0] -= 1

    class Waiting:
        def __enter__(self):
            self.began = time.monotonic()
            queued.append(self)
            if len(queued) == 8:
                all_queued.set()

        def __exit__(self, *_):
            waits.append(time.monotonic() - self.began)

    async def main():
        use_call_settings(CallSettings(max_threads=2, waiting=Waiting))
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(call_env, Counts(), "step", [5])

    anyio.run(main, backend=backend)
    assert most[0] == 2
    assert max(waits) > 0.05
    assert len(waits) == 8


def test_a_cancelled_call_leaves_its_thread_and_cancels_what_it_awaits(backend):
    env = Sleeps(awaits=1000)

    async def main():
        with seeded_rng(0), anyio.move_on_after(0.1) as scope:
            await call_env(env, "step", [5])
        assert scope.cancelled_caught

    began = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - began < 20
    for _ in range(200):
        if env.num_ended:
            break
        time.sleep(0.01)
    assert env.num_ended == 1


def test_a_call_that_never_returns_is_abandoned_and_its_turn_given_back(backend):
    test_is_over = threading.Event()

    class Blocks(Sleeps):
        async def step(self, action, *, extra=None):
            test_is_over.wait(60)

    async def main():
        use_call_settings(CallSettings(max_threads=1))
        with seeded_rng(0):
            with anyio.move_on_after(0.1) as scope:
                await call_env(Blocks(), "step", [5])
            assert scope.cancelled_caught
            with anyio.fail_after(30):
                return await call_env(Sleeps(), "step", [5])

    try:
        assert anyio.run(main, backend=backend).reward == 1.0
    finally:
        test_is_over.set()


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)])
def test_what_a_thread_raises_is_raised(backend, error):
    class Raises(Sleeps):
        async def step(self, action, *, extra=None):
            raise error

    with pytest.raises(type(error)) as raised:
        anyio.run(call_env, Raises(), "step", [5], backend=backend)
    assert raised.value is error


def test_a_thread_that_leaks_a_task_says_so(backend):
    class Leaks(Sleeps):
        async def step(self, action, *, extra=None):
            tasks = await anyio.create_task_group().__aenter__()
            tasks.start_soon(anyio.sleep_forever)

    with pytest.raises(RuntimeError, match="still open"):
        anyio.run(call_env, Leaks(), "step", [5], backend=backend)


def test_a_conversation_may_run_in_a_thread_while_tokens_are_made_outside(
    renderer, encode, backend
):
    threads = []

    class Talk(MessageEnv):
        runs_in = "thread"

        async def initial_observation(self):
            threads.append(threading.current_thread())
            return [{"role": "user", "content": "hi"}]

        async def step(self, message):
            threads.append(threading.current_thread())
            return MessageStepResult(1.0, True, [*await self.initial_observation(), message])

    env = EnvFromMessageEnv(renderer, Talk())
    assert env.runs_in == "loop"
    _, (result,) = anyio.run(play, env, encode("hello"), backend=backend)
    assert result.reward == 1.0
    assert threading.main_thread() not in threads


def test_a_thread_runs_asyncio_whatever_runs_outside(backend):
    import asyncio

    class Waits(Sleeps):
        async def step(self, action, *, extra=None):
            await asyncio.sleep(0.01)
            return await asyncio.gather(asyncio.to_thread(threading.get_ident), self.draw())

        async def draw(self):
            return current_rng().random()

    async def main():
        with seeded_rng(7):
            return await call_env(Waits(), "step", [5])

    ident, drawn = anyio.run(main, backend=backend)
    assert ident != threading.get_ident()
    with seeded_rng(7) as rng:
        assert drawn == rng.random()


@pytest.mark.parametrize("runs_in", ["loop", "thread"])
def test_a_method_that_is_no_coroutine_is_told(backend, runs_in):
    class Plain(Sleeps):
        def step(self, action, *, extra=None):
            return StepResult(1.0, True, PROMPT, [0])

    env = Plain()
    env.runs_in = runs_in
    error = r"Plain.step: expected a coroutine; got StepResult. Define it with `async def step`."
    with pytest.raises(RequestError, match=error):
        anyio.run(call_env, env, "step", [5], backend=backend)


def test_nowhere_else_can_an_environment_run(backend):
    env = Sleeps()
    env.runs_in = "treads"
    with pytest.raises(UnknownNameError, match=r"Sleeps.runs_in.*Did you mean 'thread'"):
        anyio.run(call_env, env, "step", [5], backend=backend)


# ------------------------------------------------------------------------------- processes


def test_a_process_changes_the_environment_and_its_random_numbers(scratch, backend):
    env, same = scratch.Counts(), scratch.Counts()
    same.runs_in = "thread"
    first, results = anyio.run(play, env, [6], [7], backend=backend)
    assert first == (PROMPT, [0])
    assert [result.reward for result in results] == [6.0, 7.0]
    assert os.getpid() not in env.calls
    assert len(env.calls) == 3
    anyio.run(play, same, [6], [7], backend=backend)
    assert env.drawn == same.drawn


def test_what_a_process_raises_comes_back_with_its_place(scratch, backend):
    env = scratch.Counts()
    with pytest.raises(ReportedError, match="ValueError: bad action") as raised:
        anyio.run(play, env, [1], backend=backend)
    assert raised.value.report.error_type == "ValueError"
    assert "scratch_envs.py:" in raised.value.report.location
    assert len(env.calls) == 1
    with pytest.raises(ReportedError, match="SystemExit: 3"):
        anyio.run(play, env, [5], backend=backend)


def test_a_process_that_hangs_is_killed_and_one_that_dies_is_reported(scratch, backend):
    env = scratch.Counts()

    async def main():
        await play(env)
        with seeded_rng(0), anyio.move_on_after(0.5) as scope:
            await call_env(env, "step", [2])
        assert scope.cancelled_caught
        with pytest.raises(EnvError, match="expected its worker process to answer; it died"):
            await play(env, [3])
        return await play(env, [6])

    _, (result,) = anyio.run(main, backend=backend)
    assert result.reward == 6.0


def test_an_environment_that_cannot_travel_is_told_what_to_do(scratch, backend):
    with pytest.raises(RequestError, match=r"Holds.runs_in.*Keep clients, locks"):
        anyio.run(play, scratch.Holds(), [6], backend=backend)
    with pytest.raises(ReportedError, match=r"Counts.runs_in.*set runs_in = 'thread'"):
        anyio.run(play, scratch.Counts(), [4], backend=backend)


@settings(max_examples=5, deadline=None)
@given(seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_episodes_in_threads_keep_their_own_random_numbers(seeds):
    drawn = {}

    async def one(place, seed):
        env = Sleeps(0.001)
        with seeded_rng(seed):
            await call_env(env, "initial_observation")
            await call_env(env, "step", [5])
        drawn[place] = env.drawn

    async def main():
        async with anyio.create_task_group() as tasks:
            for place, seed in enumerate(seeds):
                tasks.start_soon(one, place, seed)

    anyio.run(main, backend="trio")
    for place, seed in enumerate(seeds):
        with seeded_rng(seed) as rng:
            assert drawn[place] == [rng.random() for _ in range(2)]
