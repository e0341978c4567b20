"""Whoever said most earns most, but rewards come in the order of lengths."""

from broken.base import CountingBuilder

PROPERTY = "rewards_in_order"
SAYS = "do not sort these"


def lengths(trajectories):
    """Tokens that each member wrote."""
    return [sum(len(t.ac.tokens) for t in each.transitions) for each in trajectories]


class Sorted(CountingBuilder):
    async def compute_group_rewards(self, trajectory_group, env_group):
        said = sorted(lengths(trajectory_group))
        most = max(1, *said)
        return [(length / most, {}) for length in said]


class InOrder(CountingBuilder):
    async def compute_group_rewards(self, trajectory_group, env_group):
        said = lengths(trajectory_group)
        most = max(1, *said)
        return [(length / most, {}) for length in said]


def broken():
    return Sorted(3)


def mended():
    return InOrder(3)
