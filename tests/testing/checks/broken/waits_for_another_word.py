"""An empty action is waited for to become longer."""

import anyio
from broken.base import END, Counting, group

PROPERTY = "answers_in_time"
OPTIONS = {"max_step_seconds": 0.1}


class Waiting(Counting):
    async def step(self, action, *, extra=None):
        while action == [END]:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        return await super().step(action, extra=extra)


def broken():
    return group(Waiting)


def mended():
    return group(Counting)
