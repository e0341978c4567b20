"""A list as a default argument is one list for all."""

from broken.base import Counting, group

PROPERTY = "isolated_members"


class Default(Counting):
    def __init__(self, history=[]):  # noqa: B006
        super().__init__()
        self.history = history

    def extend(self, action):
        self.history.append(action)
        self.tokens += [*action, len(self.history)]


class None_(Default):
    def __init__(self, history=None):
        super().__init__(history if history is not None else [])


def broken():
    return group(Default)


def mended():
    return group(None_)
