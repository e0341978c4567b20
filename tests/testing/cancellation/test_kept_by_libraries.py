"""What libraries keep for the next call, or close a moment later, is nobody's leak."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar

import anyio
import anyio.lowlevel
import anyio.to_process
import pytest

from tinker_rl.envs import Env, ProblemGroupBuilder, StepResult
from tinker_rl.testing import CancellationError, cancel_everywhere
from tinker_rl.types import ModelInput

patiently = partial(cancel_everywhere, settle_seconds=10)  # what ends may take its time


class Calls(Env):
    """Calls one function."""

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        await self.call()
        return StepResult(1.0, True, ModelInput.empty(), [0])

    async def call(self):
        raise NotImplementedError


def start_another_worker(executor):
    """Its workers start one by one, when all that there are are at work."""
    started, go_on = threading.Barrier(2), threading.Event()
    held = [executor.submit(go_on.wait) for _ in executor._threads]
    another = executor.submit(started.wait)
    started.wait()
    go_on.set()
    for future in [*held, another]:
        future.result()


class UsesThePool(Calls):
    def __init__(self, pool):
        self.pool = pool

    async def call(self):
        start_another_worker(self.pool)
        await anyio.lowlevel.checkpoint()


class StartsAPool(Calls):
    pools: ClassVar = []

    async def call(self):
        await anyio.lowlevel.checkpoint()
        self.pools.append(ThreadPoolExecutor(1, thread_name_prefix="lost"))
        self.pools[-1].submit(len, "").result()


def test_workers_that_a_pool_of_the_process_starts_later_are_no_leak(backend):
    with ThreadPoolExecutor(9, thread_name_prefix="kept") as pool:
        builder = ProblemGroupBuilder(partial(UsesThePool, pool), num_envs=1)
        report = patiently(builder, backend=backend)
        assert 2 <= len(pool._threads) < 9, "each run starts one more"
    assert report.findings == ()


def test_workers_of_a_pool_that_the_episode_started_are_a_leak(backend):
    with pytest.raises(CancellationError) as raised:
        cancel_everywhere(
            ProblemGroupBuilder(StartsAPool, num_envs=1), backend=backend, settle_seconds=0.02
        )
    for one in StartsAPool.pools:
        one.shutdown()
    (finding,) = raised.value.report.findings
    assert finding.kind == "thread"
    assert "'lost" in finding.text


class AsksAProcess(Calls):
    async def call(self):
        await anyio.to_process.run_sync(len, "four")


def test_the_worker_processes_of_anyio_end_with_the_loop(backend):
    builder = ProblemGroupBuilder(AsksAProcess, num_envs=1)
    report = cancel_everywhere(builder, backend=backend, max_points=4)
    assert len(report.tried) == 4


class RunsAProcess(Calls):
    async def call(self):
        await anyio.run_process(["cat"], input=b"x")


def test_pipes_that_asyncio_closes_a_moment_later_are_no_leak(backend):
    builder = ProblemGroupBuilder(RunsAProcess, num_envs=2)
    report = patiently(builder, backend=backend)
    assert len(report.tried) == len(report.points)


class WaitsLess(Calls):
    """Waits less often from the second run on."""

    runs = 0

    async def call(self):
        WaitsLess.runs += 1
        for _ in range(4 if WaitsLess.runs == 1 else 1):
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("is_fresh", [True, False])
def test_points_that_are_not_met_again_are_told_with_what_is_known(is_fresh):
    WaitsLess.runs = 0
    builder = ProblemGroupBuilder(WaitsLess, num_envs=1)
    report = patiently((lambda: builder) if is_fresh else builder)
    (note,) = (note for note in report.notes if note.startswith("points not met again: "))
    assert "waits for sockets, subprocesses or threads" in note
    assert ("Give a function that makes a fresh builder" in note) is not is_fresh
