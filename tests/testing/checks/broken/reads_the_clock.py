"""The speed of the answer is part of its reward."""

import time

from broken.base import Counting, group

PROPERTY = "deterministic"


class Timed(Counting):
    def reward(self, action):
        return -float(time.perf_counter_ns() % 10**9)


def broken():
    return group(Timed)


def mended():
    return group(Counting)
