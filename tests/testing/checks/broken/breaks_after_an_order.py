"""What comes after one order of calls alone is wrong."""

from broken.base import SHELF_CALLS, Shelf, talk

PROPERTY = "answers_any_action"
OPTIONS = {"valid_episodes": [[*SHELF_CALLS[:3], "42"]], "max_examples": 40}


class Ordered(Shelf):
    """Only who asks for what was kept after the sum has been made meets its fault."""

    def __init__(self):
        super().__init__()
        self.order = ""

    def answer(self, name, arguments):
        self.order = (self.order + name[:1])[-3:]
        if self.order == "apg":
            int(self.kept["x"])
        return super().answer(name, arguments)


def broken():
    return talk(Ordered)


def mended():
    return talk(Shelf)
