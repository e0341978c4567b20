"""The first token says which door, and there are three."""

from broken.base import Counting, group

PROPERTY = "answers_any_action"


DOORS = ("goat", "car", "goat")


class Doors(Counting):
    def reward(self, action):
        return float(DOORS[action[0]] == "car")


class GuardedDoors(Counting):
    def reward(self, action):
        return float(bool(action) and action[0] < len(DOORS) and DOORS[action[0]] == "car")


def broken():
    return group(Doors)


def mended():
    return group(GuardedDoors)
