"""The tokenizer has no such token, and says None."""

from broken.base import Counting, group, renderer

PROPERTY = "stop_conditions"


class Unknown(Counting):
    token = "<|end|>"

    def __init__(self, renderer):
        super().__init__()
        self.tokenizer = renderer.tokenizer

    def stop(self):
        return [self.tokenizer.get_vocab().get(self.token)]


class Known(Unknown):
    token = "<|im_end|>"


def broken():
    return group(Unknown, renderer())


def mended():
    return group(Known, renderer())
