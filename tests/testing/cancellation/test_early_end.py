"""What an environment does at an end that it did not decide is cancelled everywhere, too."""

from functools import partial

import anyio

from tinker_rl.envs import Env, ProblemGroupBuilder, StepResult
from tinker_rl.rl import RolloutLimits
from tinker_rl.testing import cancel_everywhere
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([1])


class SaysGoodbye(Env):
    async def initial_observation(self):
        return PROMPT, [0]

    async def step(self, action):
        return StepResult(0.0, False, PROMPT, [0])

    async def on_early_end(self, stop_reason):
        await anyio.sleep(1)


def test_the_end_is_cancelled_too(backend):
    builder = partial(ProblemGroupBuilder, SaysGoodbye, 2)
    limits = RolloutLimits(max_turns=1)
    report = cancel_everywhere(builder, limits=limits, backend=backend)
    assert "SaysGoodbye.on_early_end: 2" in str(report)
