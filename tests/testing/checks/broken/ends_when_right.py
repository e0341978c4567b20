"""The game ends with the right answer, and some policies never give one."""

import msgspec
from broken.base import Counting, group

PROPERTY = "ends"


class UntilRight(Counting):
    most = None

    async def step(self, action, *, extra=None):
        if self.turns == 0:
            raise RuntimeError("the game is over")
        result = await super().step(action, extra=extra)
        is_over = result.reward == 1.0 or self.turn == self.most
        self.turns = 0 if is_over else self.turn + 2
        reason = "completed" if is_over else None
        return msgspec.structs.replace(result, episode_done=is_over, stop_reason=reason)


class OrLate(UntilRight):
    most = 5


def broken():
    return group(UntilRight)


def mended():
    return group(OrLate)
