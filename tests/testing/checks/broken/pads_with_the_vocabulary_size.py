"""The first id after the vocabulary is used to fill up."""

from broken.base import Counting, group, renderer

from tinker_rl.types import ModelInput

PROPERTY = "vocabulary"


class Padded(Counting):
    def __init__(self, renderer, number):
        super().__init__()
        self.renderer = renderer
        self.number = number

    async def initial_observation(self):
        self.tokens = [*self.renderer.tokenizer.encode("Count."), self.number]
        return ModelInput.from_ints(self.tokens), self.stop()

    def stop(self):
        return self.renderer.get_stop_sequences()


def broken():
    return group(Padded, renderer(), len(renderer().tokenizer))


def mended():
    return group(Padded, renderer(), len(renderer().tokenizer) - 1)
