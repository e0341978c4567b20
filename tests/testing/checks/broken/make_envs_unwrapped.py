"""Conversations are given where environments of tokens are wanted."""

from broken.base import Talk, TalkBuilder

PROPERTY = "makes_envs"


class Unwrapped(TalkBuilder):
    async def make_envs(self):
        return [self.env() for _ in range(self.size)]


def broken():
    return Unwrapped(Talk)


def mended():
    return TalkBuilder(Talk)
