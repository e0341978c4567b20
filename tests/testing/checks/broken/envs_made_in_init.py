"""The environments are made with the builder, so that a second try gets used ones."""

from broken.base import Counting, CountingBuilder

PROPERTY = "fresh_envs"


class Eager(CountingBuilder):
    def __init__(self, size=2):
        super().__init__(size)
        self.envs = [Counting() for _ in range(size)]

    async def make_envs(self):
        return list(self.envs)


broken, mended = Eager, CountingBuilder
