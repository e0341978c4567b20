"""A string and a token id in one stop condition."""

from broken.base import END, Counting, group

PROPERTY = "stop_conditions"


class Both(Counting):
    def stop(self):
        return [END, "\n"]


def broken():
    return group(Both)


def mended():
    return group(Counting)
