"""A game that was won takes another move, and pays for it."""

from broken.base import Counting, group

PROPERTY = "nothing_after_end"


class Open(Counting):
    async def step(self, action, *, extra=None):
        self.turn = min(self.turn, self.turns - 1)
        return await super().step(action, extra=extra)


def broken():
    return group(Open)


def mended():
    return group(Counting)
