"""The answer is taken for a number before anybody has looked at it."""

from broken.base import Talk, talk

PROPERTY = "answers_any_action"


class Int(Talk):
    def reward(self, text):
        return 1.0 / (1 + abs(int(text) - 7))


class Checked(Talk):
    def reward(self, text):
        text = text.strip()[:9]
        return 1.0 / (1 + abs(int(text) - 7)) if text.isascii() and text.isdigit() else 0.0


def broken():
    return talk(Int)


def mended():
    return talk(Checked)
