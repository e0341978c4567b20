"""The policy is asked for a number, and "nan" is one to float."""

import math

from broken.base import Talk, talk

PROPERTY = "rewards_finite"


class Distance(Talk):
    def reward(self, text):
        try:
            return -abs(float(text) - 7)
        except ValueError:
            return -100.0


class FiniteDistance(Distance):
    def reward(self, text):
        reward = super().reward(text)
        return reward if math.isfinite(reward) else -100.0


def broken():
    return talk(Distance)


def mended():
    return talk(FiniteDistance)
