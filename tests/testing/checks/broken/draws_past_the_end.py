"""randint includes its upper bound, randrange does not."""

from broken.base import Counting, group

from tinker_rl.envs import current_rng

PROPERTY = "starts"
OPTIONS = {"max_examples": 40}

TURNS = (1, 2, 3)


class PastTheEnd(Counting):
    async def initial_observation(self):
        self.turns = TURNS[current_rng().randint(0, len(TURNS))]
        return await super().initial_observation()


class Within(Counting):
    async def initial_observation(self):
        self.turns = TURNS[current_rng().randrange(len(TURNS))]
        return await super().initial_observation()


def broken():
    return group(PastTheEnd)


def mended():
    return group(Within)
