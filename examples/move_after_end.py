"""A game that accepts a move after its end, and how `check_env` finds it.

python examples/move_after_end.py
"""

from functools import partial

from tinker_rl.envs import Env, ProblemGroupBuilder, StepResult
from tinker_rl.testing import EnvCheckError, check_env
from tinker_rl.types import ModelInput

END = 0


class NimEnv(Env):
    """Nine matches; each move takes one to three, the environment takes one. The last one wins.

    Tokens are numbers: 1 to 3 is a move, and what is seen is the number of matches that are left.
    """

    max_turns = 9

    def __init__(self):
        self.matches = 9
        self.tokens = [9]

    async def initial_observation(self):
        return ModelInput.from_ints(self.tokens), [END]

    async def step(self, action):
        if action[:1] not in ([1], [2], [3]):
            return self.answer(action, reward=-1.0, is_over=True)
        self.matches -= min(self.matches, action[0])
        if self.matches == 0:
            return self.answer(action, reward=1.0, is_over=True)
        self.matches -= 1
        return self.answer(action, reward=0.0, is_over=self.matches == 0)

    def answer(self, action, reward, is_over):
        self.tokens += [*action, self.matches]
        observation = ModelInput.from_ints(self.tokens)
        return StepResult(reward, is_over, observation, [END], {"left": self.matches})


class MendedNimEnv(NimEnv):
    is_over = False

    async def step(self, action):
        if self.is_over:
            raise RuntimeError("the game is over")
        result = await super().step(action)
        self.is_over = result.episode_done
        return result


def check(kind):
    builder = ProblemGroupBuilder(partial(kind), num_envs=2)
    return check_env(builder, renderer=16, valid_actions=[[1], [2], [3]], reward_range=(-1, 1))


if __name__ == "__main__":
    try:
        check(NimEnv)
    except EnvCheckError as error:
        print(error)
    print(check(MendedNimEnv))
