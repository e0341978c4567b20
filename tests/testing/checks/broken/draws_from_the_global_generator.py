"""Random numbers come from the module random."""

import random

from broken.base import Counting, group

from tinker_rl.envs import current_rng

PROPERTY = "deterministic"
SAYS = "draws from a global random generator"


class Global(Counting):
    async def initial_observation(self):
        self.turns = random.randint(1, 3)
        return await super().initial_observation()


class Own(Counting):
    async def initial_observation(self):
        self.turns = current_rng().randint(1, 3)
        return await super().initial_observation()


def broken():
    return group(Global)


def mended():
    return group(Own)
