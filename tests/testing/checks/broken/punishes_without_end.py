"""What must never happen is punished with minus infinity."""

import math

from broken.base import END, Counting, group

PROPERTY = "rewards_finite"


class Infinite(Counting):
    penalty = math.inf

    def reward(self, action):
        return 0.0 if END in action else -self.penalty


class Finite(Infinite):
    penalty = 10.0


def broken():
    return group(Infinite)


def mended():
    return group(Finite)
