"""A cache that was meant for what is costly holds the environments themselves."""

from functools import lru_cache

from broken.base import Counting, CountingBuilder

PROPERTY = "fresh_envs"


@lru_cache
def make(member):
    return Counting()


class Cached(CountingBuilder):
    async def make_envs(self):
        return [make(member) for member in range(self.size)]


broken, mended = Cached, CountingBuilder
