"""A tool takes whatever it is given as the key of a dict."""

from broken.base import SHELF_TOOLS, Shelf, talk

PROPERTY = "answers_any_action"
OPTIONS = {"tools": SHELF_TOOLS}


class Trusting(Shelf):
    def put(self, given):
        self.kept[given.get("key")] = "value"
        return "ok"


def broken():
    return talk(Trusting)


def mended():
    return talk(Shelf)
