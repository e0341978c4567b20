"""Turns that an environment declares, and those that its adapter answers."""

import pytest

from tinker_rl.envs import EnvFromMessageEnv, MessageEnv, MessageStepResult, load_renderer
from tinker_rl.testing import DrawnAction, EnvCheckError, GroupScript, check_env

RENDERER = load_renderer("tiny", "qwen3_instruct")
WORD = tuple(RENDERER.tokenizer.encode("no"))
UNREAD = DrawnAction(WORD)  # it was not cut off, and has no stop
READ = DrawnAction((*WORD, RENDERER.get_stop_sequences()[0]))


class Guess(MessageEnv):
    max_turns = 3

    def __init__(self, last=3):
        self.last = last
        self.turn = 0
        self.messages = [{"role": "user", "content": "Guess."}]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        self.turn += 1
        self.messages += [message, {"role": "user", "content": "Wrong."}]
        return MessageStepResult(0.0, self.turn == self.last, list(self.messages))


def play(*actions, last=3, **options):
    def lenient():
        told = "Your message did not end."
        return EnvFromMessageEnv(
            RENDERER, Guess(last), terminate_on_parse_error=False, parse_error_message=told
        )

    replay = GroupScript(0, (tuple(actions),)).encode()
    return check_env(lenient, replay=replay, properties=["ends"], **options)


def test_turns_that_the_adapter_answered_are_not_the_environments_to_count():
    for actions in ([UNREAD], [READ, UNREAD], [READ, READ, UNREAD]):
        assert play(*actions).num_ended == 0


def test_messages_that_are_given_are_to_be_counted_whatever_comes_between():
    with pytest.raises(EnvCheckError, match="Count the turns, and end at the last"):
        play(READ, last=9)
    assert play(UNREAD, READ, READ, last=9).num_ended == 0  # it was given two of three


def test_turns_that_the_author_promises_are_all_turns():
    said = r"EnvFromMessageEnv answered 5 of them itself.*Set terminate_on_parse_error=True"
    with pytest.raises(EnvCheckError, match=said) as caught:
        play(UNREAD, max_turns=5)
    assert "Count the turns" not in str(caught.value)
