"""Worked examples are put before the question until they fill the context."""

from broken.base import Counting, group

from tinker_rl.types import ModelInput

PROPERTY = "context"
OPTIONS = {"context_window": 4096}


class Examples(Counting):
    def __init__(self, number):
        super().__init__()
        self.number = number

    async def initial_observation(self):
        self.tokens = [1, 2, 3, 4] * self.number
        return ModelInput.from_ints(self.tokens), self.stop()


def broken():
    return group(Examples, 1024)


def mended():
    return group(Examples, 16)
