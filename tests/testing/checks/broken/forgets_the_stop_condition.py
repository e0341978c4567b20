"""initial_observation gives the observation alone."""

from broken.base import Counting, group

from tinker_rl.types import ModelInput

PROPERTY = "observations"


class Alone(Counting):
    async def initial_observation(self):
        self.tokens = [self.turns]
        return ModelInput.from_ints(self.tokens)


def broken():
    return group(Alone)


def mended():
    return group(Counting)
