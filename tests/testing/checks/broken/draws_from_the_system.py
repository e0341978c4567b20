"""A generator of its own, which nobody has seeded."""

import random

from broken.base import Counting, group

PROPERTY = "deterministic"


class Unseeded(Counting):
    def __init__(self):
        super().__init__()
        self.rng = random.Random()

    def reward(self, action):
        return self.rng.random()


class Seeded(Unseeded):
    def __init__(self):
        super().__init__()
        self.rng = random.Random(0)


def broken():
    return group(Unseeded)


def mended():
    return group(Seeded)
