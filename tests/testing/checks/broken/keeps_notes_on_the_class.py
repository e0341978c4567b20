"""What a tool keeps belongs to the class, and so to every episode."""

from typing import ClassVar

from broken.base import SHELF_CALLS, Shelf, talk

PROPERTY = "isolated_members"
OPTIONS = {"valid_actions": SHELF_CALLS}
SAYS = "They share and change class attribute Shared.shelf."
REPLAYS = False


class Shared(Shelf):
    shelf: ClassVar = {}

    def __init__(self):
        super().__init__()
        self.kept = self.shelf


def broken():
    return talk(Shared)


def mended():
    return talk(Shelf)
