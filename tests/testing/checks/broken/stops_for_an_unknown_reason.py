"""The reason why an episode ended is one of the author's own."""

import msgspec
from broken.base import Counting, group

PROPERTY = "step_results"


class Unreasonable(Counting):
    reason = "lost"

    async def step(self, action, *, extra=None):
        result = await super().step(action, extra=extra)
        if not result.episode_done:
            return result
        return msgspec.structs.replace(result, stop_reason=self.reason)


class Reasonable(Unreasonable):
    reason = "completed"


def broken():
    return group(Unreasonable)


def mended():
    return group(Reasonable)
