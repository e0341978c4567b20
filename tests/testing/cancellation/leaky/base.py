"""What the leaky environments have in common: two turns, each of which waits once."""

import anyio

from tinker_rl.envs import Env, EnvGroupBuilder, StepResult
from tinker_rl.types import ModelInput

STOP = [9]


class TwoTurns(Env):
    """Opens, works twice and closes; each leaky one leaves out a little of this."""

    def __init__(self):
        self.tokens = [1, 2]
        self.turn = 0

    async def initial_observation(self):
        await self.open()
        return ModelInput.from_ints(self.tokens), STOP

    async def step(self, action):
        self.turn += 1
        self.tokens += [*action, 1]
        await self.work()
        is_over = self.turn == 2
        if is_over:
            await self.close()
        return StepResult(1.0, is_over, ModelInput.from_ints(self.tokens), STOP)

    async def open(self):
        await anyio.sleep(1)

    async def work(self):
        await anyio.sleep(1)

    async def close(self):
        await anyio.sleep(1)


class Group(EnvGroupBuilder):
    """A group of environments of one class; its `env_class` is set by children."""

    env_class = TwoTurns
    size = 1

    def __init__(self):
        self.envs = []

    async def make_envs(self):
        self.envs = [self.env_class() for _ in range(self.size)]
        return self.envs
