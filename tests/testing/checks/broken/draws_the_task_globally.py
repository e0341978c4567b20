"""The word to say is drawn from numpy's global generator, and is never shown."""

import numpy as np
from broken.base import Talk, TalkBuilder

from tinker_rl.envs import EnvFromMessageEnv, current_rng

WORDS = ["tea", "ant", "net", "tan", "eat", "ten"]
PROPERTY = "deterministic"
SAYS = "Global.make_envs: expected the same episode"
OPTIONS = {"valid_actions": WORDS}


class Guess(Talk):
    def __init__(self, word):
        super().__init__(1)
        self.word = word

    def reward(self, text):
        return float(text == self.word)


class Builder(TalkBuilder):
    def __init__(self):
        super().__init__(Guess)

    async def make_envs(self):
        word = self.drawn()
        return [EnvFromMessageEnv(self.renderer, Guess(word)) for _ in range(self.size)]

    def drawn(self):
        return current_rng().choice(WORDS)


class Global(Builder):
    async def make_envs(self):
        return await super().make_envs()

    def drawn(self):
        return WORDS[np.random.randint(len(WORDS))]


broken, mended = Global, Builder
