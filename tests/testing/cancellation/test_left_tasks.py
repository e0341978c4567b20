"""What is said of tasks that are left: what they run and who started them, once for all."""

import asyncio
import threading

import anyio
import pytest
import sniffio
import trio

from tinker_rl.envs import Env, ProblemGroupBuilder, StepResult
from tinker_rl.testing import CancellationError, cancel_everywhere
from tinker_rl.types import ModelInput


class LosesTasks(Env):
    """Each call leaves a task behind, in which no code of its own runs."""

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        if sniffio.current_async_library() == "asyncio":
            self.task = asyncio.create_task(asyncio.sleep(3600))
        else:
            trio.lowlevel.spawn_system_task(trio.sleep_forever)
        return StepResult(1.0, True, ModelInput.empty(), [0])


def test_the_same_task_of_several_members_is_told_once(backend):
    builder = ProblemGroupBuilder(LosesTasks, num_envs=3)
    with pytest.raises(CancellationError) as raised:
        cancel_everywhere(builder, backend=backend)
    (finding,) = raised.value.report.findings
    what = "trio._timeouts.sleep_forever" if backend == "trio" else "asyncio.tasks.sleep"
    assert finding.kind == "task"
    assert finding.text.startswith(f"{what} still runs (started at {__file__}:")
    assert finding.points == (None,)


class LosesThreads(LosesTasks):
    """Each run leaves a thread behind, whose name has a number."""

    stop = threading.Event()

    async def step(self, action):
        thread = threading.Thread(target=self.stop.wait, daemon=True)
        thread.start()
        await anyio.sleep(1)
        await anyio.sleep(1)
        self.stop.set()
        thread.join()
        self.stop.clear()
        return StepResult(1.0, True, ModelInput.empty(), [0])


def test_threads_that_are_numbered_are_told_once():
    builder = ProblemGroupBuilder(LosesThreads, num_envs=1)
    with pytest.raises(CancellationError) as raised:
        cancel_everywhere(builder, settle_seconds=0.02)
    LosesThreads.stop.set()
    (finding,) = raised.value.report.findings
    assert finding.kind == "thread"
    assert len(finding.points) == 2


class Forgets(Env):
    """Makes a coroutine, and does not await it."""

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        self.save()
        return StepResult(1.0, True, ModelInput.empty(), [0])

    async def save(self):
        raise NotImplementedError


def test_a_coroutine_that_never_ran_is_noted_once(backend):
    builder = ProblemGroupBuilder(Forgets, num_envs=3)
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        report = cancel_everywhere(builder, backend=backend)
    line = Forgets.step.__code__.co_firstlineno + 1
    note = f"coroutine 'Forgets.save' was never awaited ({__file__}:{line})"
    assert [note for note in report.notes if "awaited" in note] == [note]
