"""A bracket is in the wrong place, and a good format costs a whole point."""

from broken.base import Talk, talk

PROPERTY = "rewards_in_range"
OPTIONS = {"reward_range": (-1.2, 2.0)}


class Bracketed(Talk):
    def reward(self, text):
        return 0.1 * text.isdecimal() - 1 + (text == "7")


class WellBracketed(Talk):
    def reward(self, text):
        return 0.1 * (text.isdecimal() - 1) + (text == "7")


def broken():
    return talk(Bracketed)


def mended():
    return talk(WellBracketed)
