"""After two calls the first message is left out."""

from broken.base import SHELF_CALLS, Shelf, talk

PROPERTY = "extends"
OPTIONS = {"valid_actions": SHELF_CALLS}


class Forgetful(Shelf):
    def shown(self):
        return self.messages[self.turn > 1 :]


def broken():
    return talk(Forgetful)


def mended():
    return talk(Shelf)
