"""A time limit is begun with the first step, and never ended."""

import anyio
from broken.base import Counting, group

PROPERTY = "leaves_nothing_open"


class Limited(Counting):
    async def step(self, action, *, extra=None):
        if self.turn == 0:
            self.limit = anyio.move_on_after(60)
            self.limit.__enter__()
        return await super().step(action, extra=extra)


class Left(Counting):
    async def step(self, action, *, extra=None):
        with anyio.move_on_after(60):
            return await super().step(action, extra=extra)


def broken():
    return group(Limited)


def mended():
    return group(Left)
