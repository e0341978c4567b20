"""Every answer has a metric of its own."""

from broken.base import Counting, group

PROPERTY = "metrics"


class Named(Counting):
    def metrics(self, action):
        return {f"said_{'_'.join(map(str, action))}": 1.0}


def broken():
    return group(Named)


def mended():
    return group(Counting)
