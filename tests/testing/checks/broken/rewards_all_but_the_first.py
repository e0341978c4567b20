"""Neighbours are compared, and the first has none."""

import itertools

from broken.base import CountingBuilder

PROPERTY = "group_rewards"


class Compared(CountingBuilder):
    async def compute_group_rewards(self, trajectory_group, env_group):
        lengths = [len(t.transitions) for t in trajectory_group]
        pairs = itertools.pairwise(lengths)
        return [(float(a < b), {}) for a, b in pairs]


class ComparedToAll(CountingBuilder):
    async def compute_group_rewards(self, trajectory_group, env_group):
        lengths = [len(t.transitions) for t in trajectory_group]
        return [(float(length < max(lengths)), {}) for length in lengths]


broken, mended = Compared, ComparedToAll
