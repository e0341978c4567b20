"""Checks of members that wait for each other: who waits in vain is found at once."""

import re

import anyio
import pytest

from tinker_rl.envs import Env, EnvGroupBuilder, StepResult
from tinker_rl.rl import RolloutLimits
from tinker_rl.testing import EnvCheckError, check_env
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.scripts import GroupScript
from tinker_rl.types import ModelInput

END = 0
TURNS = 3
MOVE, GIVE_UP = DrawnAction((5, END)), DrawnAction((END,))


class Pair:
    """How often each has moved, and whether somebody has given up."""

    def __init__(self):
        self.moves = [0, 0]
        self.is_over = False
        self.changed = anyio.Event()

    def change(self, side):
        self.moves[side] += 1
        self.wake()

    def wake(self):
        self.changed.set()
        self.changed = anyio.Event()


class Player(Env):
    """Moves in turn with the other, until one says nothing."""

    def __init__(self, pair, side):
        self.pair, self.side = pair, side
        self.tokens = [1 + side]

    async def wait(self):
        while not self.pair.is_over and self.pair.moves[0] - self.pair.moves[1] != self.side:
            await self.pair.changed.wait()

    async def initial_observation(self):
        await self.wait()
        return ModelInput.from_ints(self.tokens), [END]

    async def step(self, action):
        self.tokens += [*action, 9]
        gives_up = list(action) == [END]
        if gives_up:
            self.give_up()
        self.pair.change(self.side)
        is_over = gives_up or self.pair.is_over or self.pair.moves[self.side] >= TURNS
        if not is_over:
            await self.wait()
        return StepResult(0.0, is_over, ModelInput.from_ints(self.tokens), [END])

    def give_up(self):
        self.pair.is_over = True

    async def on_early_end(self, stop_reason):
        self.give_up()
        self.pair.wake()


class Leaves(Player):
    """Tells nobody that it has given up."""

    def give_up(self):
        pass


class Deaf(Player):
    """Tells nobody of an end that it did not decide."""

    on_early_end = Env.on_early_end


class Breaks(Player):
    async def on_early_end(self, stop_reason):
        raise ValueError(f"no end such as {stop_reason}")


class Pairs(EnvGroupBuilder):
    linked = True

    def __init__(self, player=Player):
        self.player = player

    async def make_envs(self):
        pair = Pair()
        return [self.player(pair, side) for side in range(2)]


OPTIONS = {"renderer": 10, "skip": {"nothing_after_end": "not looked at here"}}


def finding(player, **options):
    with pytest.raises(EnvCheckError) as caught:
        check_env(Pairs(player), **OPTIONS, **options)
    return caught.value


def test_members_that_wake_each_other_pass(backend):
    options = {"max_examples": 3, "backend": backend}
    report = check_env(Pairs(), **OPTIONS, **options)
    assert report.checked["answers_in_time"] > 5


def test_the_cause_is_shown_before_the_one_that_waits(backend):
    script = GroupScript(0, ((MOVE, GIVE_UP), (MOVE,)))
    error = finding(Leaves, replay=script.encode(), backend=backend)
    assert error.property == "answers_in_time"
    assert "must wake the others" in error.finding
    lines = [re.sub(r"  +", " ", line) for line in error.transcript.splitlines()]
    assert lines[:-1] == [
        "member 0, seed 0",
        " sees tokens [1]",
        " writes tokens [5, 0] (2 tokens)",
        " earns 0",
        "member 1, seed 0",
        " sees tokens [2]",
        " writes tokens [5, 0] (2 tokens)",
        " earns 0",
        "member 0, seed 0",
        " sees ... tokens [9]",
        " writes tokens [0] (1 token)",
        " earns 0, over: completed",
        "member 1, seed 0",
        " sees ... tokens [9]",
        " writes tokens [5, 0] (2 tokens)",
    ]
    assert lines[-1].startswith(" breaks TimeoutError: Leaves.step: expected an answer within 10")


def test_it_is_found_and_made_small_in_no_time():
    error = finding(Leaves, max_step_seconds=3600)
    assert error.property == "answers_in_time"
    assert "member 0" in error.transcript
    assert "member 1" in error.transcript


def test_who_is_not_told_of_a_limit_waits_for_ever():
    limits = RolloutLimits(max_turns=1)
    assert finding(Deaf, limits=limits).property == "answers_in_time"
    check_env(Pairs(), **OPTIONS, limits=limits, max_examples=3)


def test_what_on_early_end_raises_is_found():
    error = finding(Breaks, limits=RolloutLimits(max_turns=1))
    assert error.property == "answers_any_action"
    assert "on_early_end: ValueError: no end such as max_turns" in error.finding


def test_of_many_turns_the_middle_is_left_out(monkeypatch):
    monkeypatch.setattr(f"{__name__}.TURNS", 9)
    script = GroupScript(0, ((*[MOVE] * 6, GIVE_UP), (MOVE,)))
    error = finding(Leaves, replay=script.encode())
    assert "\n... 6 turns more ...\n" in error.transcript
