"""Environments of sums, which the tests of this folder play, and what is found in them."""

import anyio
import pytest

from tinker_rl.envs import Env, EnvGroupBuilder, StepResult, current_rng
from tinker_rl.testing import EnvCheckError, check_env
from tinker_rl.types import ModelInput

FEW = {"renderer": 10, "max_examples": 3}


class Sum(Env):
    """Wants two tokens that add up to a number; right at once earns most."""

    def __init__(self, turns=3, price=0.0):
        self.turns = turns
        self.price = price
        self.tokens = []
        self.wanted = 0

    async def initial_observation(self):
        self.wanted = current_rng().randint(0, 9)
        self.tokens = [self.wanted]
        return ModelInput.from_ints(self.tokens), [0]

    async def step(self, action):
        if self.turns == 0:
            raise RuntimeError("over")
        right = sum(action) == self.wanted
        self.turns = 0 if right else self.turns - 1
        self.tokens += [*action, 1]
        shown = ModelInput.from_ints(self.tokens)
        return StepResult(right - self.price * len(action), self.turns == 0, shown, [0])


class Unlucky(Sum):
    async def step(self, action):
        if self.wanted == 5 and action[:1] == [7]:
            raise ZeroDivisionError
        return await super().step(action)


class SumBuilder(EnvGroupBuilder):
    def __init__(self, env=Sum, size=2):
        self.env = env
        self.size = size

    async def make_envs(self):
        return [self.env() for _ in range(self.size)]


class Table(EnvGroupBuilder):
    """Two players who wait for each other."""

    linked = True

    async def make_envs(self):
        table = [anyio.Event(), anyio.Event()]
        return [Player(table, place) for place in range(2)]


class Player(Sum):
    def __init__(self, table, place):
        super().__init__(turns=1)
        self.table = table
        self.place = place

    async def step(self, action):
        self.table[self.place].set()
        await self.table[1 - self.place].wait()
        return await super().step(action)


def found(builder, **options):
    with pytest.raises(EnvCheckError) as caught:
        check_env(builder, **{**FEW, **options})
    return caught.value
