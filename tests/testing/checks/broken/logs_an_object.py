"""An object is logged, of which nothing but its address is left."""

from broken.base import Counting, group

PROPERTY = "logs"


class Parsed:
    def __init__(self, action):
        self.action = action


class Object(Counting):
    def logs(self, action):
        return {"parsed": Parsed(action)}


class Fields(Counting):
    def logs(self, action):
        return {"parsed": Parsed(action).action}


def broken():
    return group(Object)


def mended():
    return group(Fields)
