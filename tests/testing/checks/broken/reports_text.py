"""Text is reported as a metric."""

from broken.base import Counting, group

PROPERTY = "metrics"


class Text(Counting):
    def metrics(self, action):
        return {"said": str(action)}


def broken():
    return group(Text)


def mended():
    return group(Counting)
