"""The environments are made by a function without a name."""

from broken.base import Counting, group

from tinker_rl.envs import ProblemGroupBuilder

PROPERTY = "pickles"


def broken():
    return ProblemGroupBuilder(lambda: Counting(turns=3), 2)


def mended():
    return group(Counting, 3)
