"""Nothing is shown in the turns between, as if the policy remembered."""

import msgspec
from broken.base import Counting, group

from tinker_rl.types import ModelInput

PROPERTY = "observations"


class Mute(Counting):
    async def step(self, action, *, extra=None):
        result = await super().step(action, extra=extra)
        return msgspec.structs.replace(result, next_observation=ModelInput.empty())


class MuteAtTheEnd(Counting):
    async def step(self, action, *, extra=None):
        result = await super().step(action, extra=extra)
        if not result.episode_done:
            return result
        return msgspec.structs.replace(result, next_observation=ModelInput.empty())


def broken():
    return group(Mute)


def mended():
    return group(MuteAtTheEnd)
