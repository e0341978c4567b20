"""A small environment that the tests of this folder play."""

from tinker_rl.envs import Env, StepResult
from tinker_rl.types import ModelInput

TURNS = 6


class Walk(Env):
    """Goes where it is told, for six turns; of another length than one token only that counts."""

    rewrites_history = True

    def __init__(self):
        self.path = ()

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        if self.is_over():
            raise RuntimeError("over")
        self.path = (*self.path, action[0] if len(action) == 2 else -len(action))
        return StepResult(self.reward(), self.is_over(), self.shown(), [0])

    def is_over(self):
        return len(self.path) == TURNS

    def reward(self):
        return 0.0

    def shown(self):
        return ModelInput.from_ints([1] * (len(self.path) + 1))
