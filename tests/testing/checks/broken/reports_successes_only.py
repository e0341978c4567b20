"""A metric is reported when it is 1, so that its mean is always 1."""

from broken.base import Counting, group

PROPERTY = "metrics"
SAYS = "got ['right'] of member 0 and none of member 1."


class Successes(Counting):
    def metrics(self, action):
        return {"right": 1.0} if self.reward(action) else {}


class Both(Counting):
    def metrics(self, action):
        return {"right": self.reward(action)}


def broken():
    return group(Successes)


def mended():
    return group(Both)
