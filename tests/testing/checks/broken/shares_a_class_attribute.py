"""What is written on the class belongs to all its objects."""

from typing import ClassVar

from broken.base import Counting, group

PROPERTY = "isolated_members"
REPLAYS = False  # what it has seen once, it has seen for good


class OnClass(Counting):
    seen: ClassVar[set] = set()

    def reward(self, action):
        is_new = tuple(action) not in self.seen
        self.seen.add(tuple(action))
        return float(is_new)


class OnObject(OnClass):
    def __init__(self):
        super().__init__()
        self.seen = set()


def broken():
    return group(OnClass)


def mended():
    return group(OnObject)
