"""Rewards are divided by their standard deviation, and all may be equal."""

import statistics

from broken.base import CountingBuilder

PROPERTY = "group_rewards"


class Spread(CountingBuilder):
    least = 0.0

    async def compute_group_rewards(self, trajectory_group, env_group):
        returns = [sum(t.reward for t in each.transitions) for each in trajectory_group]
        spread = max(self.least, statistics.pstdev(returns))
        return [((value - returns[0]) / spread, {}) for value in returns]


class LeastSpread(Spread):
    least = 0.1


broken, mended = Spread, LeastSpread
