"""The winner is paid by the environment and by the group."""

from broken.base import Counting, CountingBuilder

PROPERTY = "rewards_in_range"
OPTIONS = {"reward_range": (0.0, 1.0), "valid_actions": [[1]]}


class Twice(CountingBuilder):
    share = 1.0

    async def make_envs(self):
        return [Counting(turns=1) for _ in range(self.size)]

    async def compute_group_rewards(self, trajectory_group, env_group):
        returns = [sum(t.reward for t in each.transitions) for each in trajectory_group]
        return [(value * self.share, {}) for value in returns]


class Once(Twice):
    share = 0.0


broken, mended = Twice, Once
