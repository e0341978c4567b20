"""step answers with the four values of another library."""

from broken.base import Counting, group

PROPERTY = "step_results"


class Gym(Counting):
    async def step(self, action, *, extra=None):
        result = await super().step(action, extra=extra)
        return result.next_observation, result.reward, result.episode_done, {}


def broken():
    return group(Gym)


def mended():
    return group(Counting)
