"""The policy sees what was said last, and its own words are gone."""

from broken.base import Counting, group

PROPERTY = "extends"


class Last(Counting):
    def extend(self, action):
        self.tokens = [self.turn]


class Declared(Last):
    rewrites_history = True


def broken():
    return group(Last)


def mended():
    return group(Declared)
