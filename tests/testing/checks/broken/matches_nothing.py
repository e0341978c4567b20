"""A pattern that does not match gives None."""

import re

from broken.base import Talk, talk

PROPERTY = "answers_any_action"


class NoMatch(Talk):
    def reward(self, text):
        return float(re.search(r"\d", text).group() == "7")


class Match(Talk):
    def reward(self, text):
        found = re.search(r"\d", text)
        return float(found is not None and found.group() == "7")


def broken():
    return talk(NoMatch)


def mended():
    return talk(Match)
