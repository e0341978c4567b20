"""A tool divides whole numbers that no float can hold."""

from broken.base import SHELF_TOOLS, Shelf, talk

PROPERTY = "answers_any_action"
OPTIONS = {"tools": SHELF_TOOLS}


class Exact(Shelf):
    def add(self, given):
        numbers = [n for n in given.values() if type(n) is int]
        return str(sum(numbers) / 1)


def broken():
    return talk(Exact)


def mended():
    return talk(Shelf)
