"""The builder makes one list, and gives it to every member."""

from broken.base import Counting, CountingBuilder

PROPERTY = "isolated_members"
SAYS = "They share and change Listed.history"
OPTIONS = {"max_examples": 40}


class Listed(Counting):
    def __init__(self, history):
        super().__init__()
        self.history = history

    def reward(self, action):
        self.history.append(action)
        return float(self.history.count(action) == 1)


class Shared(CountingBuilder):
    async def make_envs(self):
        history = []
        return [Listed(history) for _ in range(self.size)]


class Apart(CountingBuilder):
    async def make_envs(self):
        return [Listed([]) for _ in range(self.size)]


broken, mended = Shared, Apart
