"""A text is cut at its line breaks, and an empty string is left."""

from broken.base import Counting, group

PROPERTY = "stop_conditions"


STOPS = "Q:\nA:\n"


class AtOnce(Counting):
    def stop(self):
        return STOPS.split("\n")


class Later(Counting):
    def stop(self):
        return STOPS.split()


def broken():
    return group(AtOnce)


def mended():
    return group(Later)
