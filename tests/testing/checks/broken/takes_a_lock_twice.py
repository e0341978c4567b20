"""The rewards of the group are computed under a lock that make_envs has not given back."""

import anyio
from broken.base import CountingBuilder

PROPERTY = "answers_in_time"
OPTIONS = {"max_step_seconds": 0.1}


class Locked(CountingBuilder):
    def __init__(self, size=2):
        super().__init__(size)
        self.slots = None

    async def make_envs(self):
        self.slots = anyio.Semaphore(1)
        await self.slots.acquire()
        return await super().make_envs()

    async def compute_group_rewards(self, trajectory_group, env_group):
        async with self.slots:
            return await super().compute_group_rewards(trajectory_group, env_group)


broken, mended = Locked, CountingBuilder
