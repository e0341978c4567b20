"""What is said of tasks that are left: what they run and who started them, once for all."""

import asyncio

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
