"""The turns are compared before they are counted."""

from broken.base import Talk, talk

from tinker_rl.envs import MessageStepResult

PROPERTY = "ends"


class Late(Talk):
    max_turns = 3
    turn = 0

    async def step(self, message):
        result = await super().step(message)
        done = self.is_last()
        self.turn += 1
        return MessageStepResult(result.reward, done, result.next_messages)

    def is_last(self):
        return self.turn >= self.max_turns


class InTime(Late):
    def is_last(self):
        return self.turn + 1 >= self.max_turns


def broken():
    return talk(Late)


def mended():
    return talk(InTime)
