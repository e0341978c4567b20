"""The arguments of a tool are taken for JSON."""

import json

from broken.base import Shelf, talk

PROPERTY = "answers_any_action"
OPTIONS = {"tools": ["get"]}


class Unguarded(Shelf):
    def answer(self, name, arguments):
        json.loads(arguments)
        return super().answer(name, arguments)


def broken():
    return talk(Unguarded)


def mended():
    return talk(Shelf)
