"""What is left of the last call is given again, with more."""

from broken.base import Counting, CountingBuilder

PROPERTY = "fresh_envs"


class Growing(CountingBuilder):
    async def make_envs(self):
        self.size += 1
        return [Counting() for _ in range(self.size)]


broken, mended = Growing, CountingBuilder
