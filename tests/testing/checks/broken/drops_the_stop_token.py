"""The token that ended the action is left out of the history."""

from broken.base import Counting, group

PROPERTY = "extends"


class Dropped(Counting):
    def extend(self, action):
        self.tokens += [*action[:-1], self.turn]


def broken():
    return group(Dropped)


def mended():
    return group(Counting)
