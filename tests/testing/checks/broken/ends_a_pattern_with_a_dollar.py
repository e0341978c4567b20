"""A dollar in a pattern stands before a line break at the end, too."""

import re

from broken.base import Talk, talk

PROPERTY = "answers_any_action"
OPTIONS = {"valid_actions": ["b2", "c3", "a1"]}


class Dollar(Talk):
    pattern = re.compile(r"[abc][123]$")

    def reward(self, text):
        if self.pattern.match(text) is None:
            return -0.1
        column, row = text
        return float(column + row == "b2")


class EndOfText(Dollar):
    pattern = re.compile(r"[abc][123]\Z")


def broken():
    return talk(Dollar)


def mended():
    return talk(EndOfText)
