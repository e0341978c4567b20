"""Every answer repeats all that was said, and the episode doubles with each turn."""

from broken.base import Counting, group

PROPERTY = "context"
OPTIONS = {"context_window": 4096}


class Repeating(Counting):
    def extend(self, action):
        self.tokens += [*action, *self.tokens]


class Short(Counting):
    def extend(self, action):
        self.tokens += [*action[:1], self.turn]

    rewrites_history = True


def broken():
    return group(Repeating, 12)


def mended():
    return group(Short, 12)
