"""A tool writes its key in a code page of one byte a character."""

from broken.base import SHELF_TOOLS, Shelf, talk

PROPERTY = "answers_any_action"
OPTIONS = {"tools": SHELF_TOOLS, "max_examples": 40}


class Narrow(Shelf):
    def put(self, given):
        str(given.get("key")).encode("latin-1")
        return super().put(given)


def broken():
    return talk(Narrow)


def mended():
    return talk(Shelf)
