"""A conversation is cut to its last messages, and does not say so."""

import msgspec
from broken.base import Talk, talk

PROPERTY = "extends"


class Forgets(Talk):
    async def step(self, message):
        result = await super().step(message)
        return msgspec.structs.replace(result, next_messages=result.next_messages[-1:])


class SaysSo(Forgets):
    rewrites_history = True


def broken():
    return talk(Forgets)


def mended():
    return talk(SaysSo)
