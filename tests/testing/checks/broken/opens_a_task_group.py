"""A watcher is started in a task group that nobody leaves."""

import anyio
from broken.base import Counting, group

PROPERTY = "leaves_nothing_open"


class Watched(Counting):
    async def initial_observation(self):
        self.tasks = await anyio.create_task_group().__aenter__()
        self.tasks.start_soon(anyio.sleep_forever)
        return await super().initial_observation()


class Unwatched(Watched):
    async def initial_observation(self):
        return await Counting.initial_observation(self)


def broken():
    return group(Watched)


def mended():
    return group(Unwatched)
