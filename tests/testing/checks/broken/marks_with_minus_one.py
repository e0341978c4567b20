"""A number that marks the end of a turn in lists gets into the tokens."""

from broken.base import Counting, group

PROPERTY = "vocabulary"


MARK = -1


class Marked(Counting):
    def extend(self, action):
        self.tokens += [*action, MARK]


def broken():
    return group(Marked)


def mended():
    return group(Counting)
