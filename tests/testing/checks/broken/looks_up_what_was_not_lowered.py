"""Asks for a word in lower case, and looks it up as it was written."""

from broken.base import Talk, talk

PROPERTY = "answers_any_action"
PRICES = {"lemon": 0.5, "melon": 1.0}
OPTIONS = {"valid_episodes": [["lemon", "melon"], ["melon", "melon"]]}


class AsWritten(Talk):
    def reward(self, text):
        return PRICES[self.word(text)] if text.lower() in PRICES else -0.1

    def word(self, text):
        return text


class Lowered(AsWritten):
    def word(self, text):
        return text.lower()


def broken():
    return talk(AsWritten)


def mended():
    return talk(Lowered)
