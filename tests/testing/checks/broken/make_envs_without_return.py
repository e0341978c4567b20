"""make_envs fills a list, and forgets to return it."""

from broken.base import Counting, CountingBuilder

PROPERTY = "makes_envs"


class Forgetful(CountingBuilder):
    async def make_envs(self):
        [Counting() for _ in range(self.size)]


broken, mended = Forgetful, CountingBuilder
