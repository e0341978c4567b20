"""A list is multiplied, so that all episodes are played in one environment."""

from broken.base import Counting, CountingBuilder

PROPERTY = "makes_envs"


class Multiplied(CountingBuilder):
    async def make_envs(self):
        return [Counting()] * self.size


broken, mended = Multiplied, CountingBuilder
