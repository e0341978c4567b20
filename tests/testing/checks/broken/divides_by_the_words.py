"""An answer may have no words."""

from broken.base import Talk, talk

PROPERTY = "answers_any_action"


class Share(Talk):
    def reward(self, text):
        words = text.split()
        return words.count("7") / len(words)


class ShareOfSome(Talk):
    def reward(self, text):
        words = text.split()
        return words.count("7") / max(1, len(words))


def broken():
    return talk(Share)


def mended():
    return talk(ShareOfSome)
