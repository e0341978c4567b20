"""State machines over groups: players who wait for each other, rewards, and the clean-up."""

from functools import partial

import anyio
import pytest
from hypothesis import Phase
from hypothesis import strategies as st

from tinker_rl.envs import Env, EnvGroupBuilder, StepResult
from tinker_rl.errors import RequestError
from tinker_rl.testing.state_machines.state_machine import (
    EnvStateMachine,
    run_env_state_machine,
    turn,
)
from tinker_rl.types import ModelInput

run = partial(run_env_state_machine, max_examples=5, max_steps=8)
find = partial(run, phases=[Phase.generate])  # as it was drawn, not shrunk


class Duel:
    """Two players in turns: the second sees what the first said; whoever says more wins."""

    def __init__(self):
        self.said = [[], []]
        self.moved = anyio.Condition()


class Player(Env):
    def __init__(self, duel, place):
        self.duel, self.place = duel, place
        self.tokens = []
        self.is_over = False

    async def initial_observation(self):
        await self.wait_for_turn()
        self.tokens = [1, *(self.duel.said[0] if self.place else [])]
        return ModelInput.from_ints(self.tokens), [0]

    async def step(self, action):
        if self.is_over:
            raise RuntimeError("it is over")
        self.duel.said[self.place].append(action[0])
        async with self.duel.moved:
            self.duel.moved.notify_all()
        self.is_over = len(self.duel.said[self.place]) == 2
        if not self.is_over:
            await self.wait_for_turn()
        other = self.duel.said[1 - self.place][-1:]
        self.tokens += [*action, *other]
        return StepResult(0.0, self.is_over, ModelInput.from_ints(self.tokens), [0])

    async def wait_for_turn(self):
        async with self.duel.moved:
            while len(self.duel.said[0]) - len(self.duel.said[1]) != self.place:
                await self.duel.moved.wait()


class DuelBuilder(EnvGroupBuilder):
    linked = True

    async def make_envs(self):
        self.duel = Duel()
        return [Player(self.duel, place) for place in range(2)]

    async def compute_group_rewards(self, trajectories, envs):
        first, second = (sum(said) for said in self.duel.said)
        return [(float(first > second), {}), (float(second > first), {})]


class DuelMachine(EnvStateMachine):
    builder = DuelBuilder

    def make_builder(self):
        return self.builder()

    def make_model(self):
        return [[], []]

    @turn(token=st.integers(1, 9))
    def move(self, token):
        (member,) = self.active  # there is always one whose turn it is
        assert member == (len(self.model[0]) + len(self.model[1])) % 2
        result = self.act([token, 0], member)
        self.model[member].append(token)
        assert (result is None) == (not self.members[member].is_over)

    def teardown(self):
        was_over = self.is_over
        super().teardown()
        if was_over:
            first, second = map(sum, self.model)
            assert self.group_rewards == [first > second, second > first]


def test_players_who_wait_for_each_other_are_played_by_turns(backend):
    run(type("Machine", (DuelMachine,), {"backend": backend}), max_steps=6)


class ForgetsOne(DuelBuilder):
    async def compute_group_rewards(self, trajectories, envs):
        return (await super().compute_group_rewards(trajectories, envs))[:1]


class CleansUpItself(DuelBuilder):
    async def compute_group_rewards(self, trajectories, envs):
        await self.cleanup()
        return await super().compute_group_rewards(trajectories, envs)


class CannotCleanUp(DuelBuilder):
    async def cleanup(self):
        raise OSError("the disk is full")


@pytest.mark.parametrize(
    ("builder", "error", "text"),
    [
        (ForgetsOne, RequestError, "expected a list of 2"),
        (CleansUpItself, AssertionError, r"CleansUpItself\.cleanup: expected one call.*; got 2"),
        (CannotCleanUp, OSError, "the disk is full"),
    ],
)
def test_the_end_of_the_group_is_looked_at(builder, error, text, backend):
    fields = {"backend": backend, "builder": builder}
    with pytest.raises(error, match=text):
        find(type("Machine", (DuelMachine,), fields), max_steps=6)
