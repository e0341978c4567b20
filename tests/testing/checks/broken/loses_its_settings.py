"""The pickled builder has the default settings."""

from broken.base import Counting, CountingBuilder

PROPERTY = "pickles"
SAYS = "another first observation for member 0: tokens [1] instead of tokens [3]. Keep all that"


class Turns(CountingBuilder):
    def __init__(self, turns=1):
        super().__init__()
        self.turns = turns

    async def make_envs(self):
        return [Counting(self.turns) for _ in range(self.size)]


class Lost(Turns):
    def __reduce__(self):
        return Lost, ()


class Kept(Turns):
    def __reduce__(self):
        return Kept, (self.turns,)


def broken():
    return Lost(turns=3)


def mended():
    return Kept(turns=3)
