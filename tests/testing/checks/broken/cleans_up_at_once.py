"""cleanup is a plain function."""

from broken.base import CountingBuilder

PROPERTY = "cleanup"


class Plain(CountingBuilder):
    def cleanup(self):
        self.size = 0


class Coroutine(CountingBuilder):
    async def cleanup(self):
        self.size = 0


broken, mended = Plain, Coroutine
