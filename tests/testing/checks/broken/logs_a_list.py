"""Logs are a list of lines."""

from broken.base import Counting, group

PROPERTY = "logs"


class Lines(Counting):
    def logs(self, action):
        return [f"turn {self.turn}", str(action)]


def broken():
    return group(Lines)


def mended():
    return group(Counting)
