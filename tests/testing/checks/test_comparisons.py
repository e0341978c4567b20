"""Why the same seed does not give the same episode, and where."""

import random

import pytest

from tinker_rl.envs import EnvGroupBuilder
from tinker_rl.testing import EnvCheckError, check_env
from tinker_rl.types import ModelInput

from .walk import Walk


class Coin(Walk):
    """Begins as a coin falls that depends on nothing that is seeded, like a clock."""

    coin = random.Random(0)

    async def initial_observation(self):
        return ModelInput.from_ints([1, self.coin.randrange(2)]), [0]


class Late(Walk):
    """The same after the first turn."""

    coin = random.Random(0)

    def shown(self):
        return ModelInput.from_ints([9, self.coin.randrange(2)])


def cause(env, max_examples=3):
    with pytest.raises(EnvCheckError) as caught:
        check_env(env, renderer=20, max_examples=max_examples)
    assert caught.value.property == "deterministic"
    return caught.value.finding


@pytest.mark.parametrize("seed", range(6))
def test_a_coin_that_falls_alike_twice_is_not_taken_for_a_global_generator(seed, monkeypatch):
    monkeypatch.setattr(Coin, "coin", random.Random(seed))
    finding = cause(Coin)
    assert finding.startswith("Coin.initial_observation: ")
    assert "another first observation for member" in finding
    assert finding.endswith("Draw random numbers from current_rng(), and no clock.")


def test_a_difference_after_a_turn_is_of_step():
    finding = cause(Late)
    assert finding.startswith("Late.step: ")
    assert "another observation for member 0 after turn " in finding


def test_other_rewards_of_the_group_are_of_its_builder():
    class Group:
        linked = False

        async def make_envs(self):
            return [Walk()]

        async def compute_group_rewards(self, trajectories, envs):
            return [(float(Late.coin.random()), {})]

        def logging_tags(self):
            return []

        async def cleanup(self):
            pass

    assert cause(Group()).startswith("Group.compute_group_rewards: ")


@pytest.mark.parametrize("method", ["make_envs", "initial_observation"])
def test_what_is_drawn_globally_and_seen_later_is_told_where_it_is_drawn(method):
    class Hidden(Walk):
        """What the steps earn was drawn before them."""

        wanted = 0

        def __init__(self):
            super().__init__()
            if method == "make_envs":
                self.wanted = random.randrange(4)

        async def initial_observation(self):
            if method == "initial_observation":
                self.wanted = random.randrange(4)
            return await super().initial_observation()

        def reward(self):
            return float(self.wanted)

    class Group(EnvGroupBuilder):
        async def make_envs(self):
            return [Hidden()]

    owner = "Group" if method == "make_envs" else "Hidden"
    assert cause(Group()).startswith(f"{owner}.{method}: expected the same episode from the same")


@pytest.mark.parametrize("number", range(2, 8))
def test_each_case_draws_global_numbers_of_its_own(number):
    """Two draws for all cases would be alike for one of these numbers or another."""

    class Drawn(Walk):
        def __init__(self):
            super().__init__()
            self.wanted = random.randrange(number)

        def reward(self):
            return float(self.wanted)

    class Group(EnvGroupBuilder):
        async def make_envs(self):
            return [Drawn()]

    assert "draws from a global random generator" in cause(Group(), max_examples=20)
