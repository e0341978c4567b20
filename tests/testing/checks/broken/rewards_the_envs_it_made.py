"""Rewards are those of the environments that were made, whichever are left."""

from broken.base import Counting, CountingBuilder

PROPERTY = "rewards_of_some"
SAYS = "expected a list of 2 (reward, metrics) pairs, one per trajectory; got 3."


class Kept(CountingBuilder):
    made = ()

    async def make_envs(self):
        self.made = [Counting() for _ in range(self.size)]
        return self.made

    async def compute_group_rewards(self, trajectory_group, env_group):
        return [(float(len(env.tokens) > 5), {}) for env in self.made]


class Given(CountingBuilder):
    async def compute_group_rewards(self, trajectory_group, env_group):
        return [(float(len(env.tokens) > 5), {}) for env in env_group]


def broken():
    return Kept(3)


def mended():
    return Given(3)
