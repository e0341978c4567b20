"""isdigit is true of digits that int does not read; behind a command nobody tries any."""

from broken.base import Talk, talk

PROPERTY = "answers_any_action"
OPTIONS = {"valid_actions": ["guess 5", "guess 7", "guess 11"]}


class IsDigit(Talk):
    def reward(self, text):
        command, _, number = text.partition(" ")
        if command != "guess" or not self.is_number(number):
            return -0.1
        return float(int(number) == 7)

    def is_number(self, text):
        return len(text) < 9 and text.isdigit()


class IsDecimal(IsDigit):
    def is_number(self, text):
        return len(text) < 9 and text.isdecimal()


def broken():
    return talk(IsDigit)


def mended():
    return talk(IsDecimal)
