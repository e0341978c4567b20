"""A lock is made with the builder."""

import threading

from broken.base import CountingBuilder

PROPERTY = "pickles"


class Locked(CountingBuilder):
    def __init__(self, size=2):
        super().__init__(size)
        self.lock = threading.Lock()


class LockedLater(CountingBuilder):
    async def make_envs(self):
        self.lock = threading.Lock()
        return await super().make_envs()


broken, mended = Locked, LockedLater
