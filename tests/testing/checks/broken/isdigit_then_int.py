"""isdigit is true of digits that int does not read, such as superscripts."""

from broken.base import Talk, talk

PROPERTY = "answers_any_action"


class IsDigit(Talk):
    def reward(self, text):
        return float(text.isdigit() and int(text) == 7)


class IsDecimal(Talk):
    def reward(self, text):
        return float(text.isdecimal() and len(text) < 9 and int(text) == 7)


def broken():
    return talk(IsDigit)


def mended():
    return talk(IsDecimal)
