"""Which named actions are played, when all of them are to be."""

import itertools
import random
from collections import Counter

import pytest

from tinker_rl.testing import DrawnAction
from tinker_rl.testing.strategies.valid_plan import ValidPlan


def played(num_actions, num_turns, num_episodes, endings=(), max_turns=None):
    """Episodes that a plan makes, as they are played: some actions end them."""
    actions = [DrawnAction((number,)) for number in range(num_actions)]
    plan = ValidPlan(actions, max_turns, random.Random(0))
    episodes = []
    for _ in range(num_episodes):
        planned = [action.tokens[0] for action in plan.episode()]
        looped = [planned[turn % len(planned)] for turn in range(num_turns)]
        ends = [turn for turn, action in enumerate(looped, 1) if action in endings]
        episodes.append(tuple(looped[: min(ends, default=num_turns)]))
        plan.note(len(episodes[-1]), ended=True)
    return episodes, plan


def orders(episodes):
    """How often each action came after each other one."""
    return Counter(pair for each in episodes for pair in itertools.pairwise(each))


@pytest.mark.parametrize("max_turns", [None, 6])
def test_every_order_of_two_is_met_and_each_action_as_often(max_turns):
    episodes, plan = played(8, 6, 40, max_turns=max_turns)
    assert len(orders(episodes)) == 64
    assert not plan.lacks_orders
    counts = Counter(action for episode in episodes for action in episode)
    assert max(counts.values()) - min(counts.values()) <= 4
    assert len(set(episodes)) == 40
    assert len(set(played(4, 6, 200, max_turns=max_turns)[0])) == 200


def test_it_says_whether_two_have_not_been_played_in_a_row():
    _, plan = played(4, 6, 2)
    assert plan.lacks_orders
    assert not played(4, 6, 8)[1].lacks_orders
    assert not played(9, 6, 1)[1].lacks_orders  # too many to insist on


def test_an_action_that_ends_episodes_comes_last_and_after_each_other():
    episodes, plan = played(4, 6, 40, endings=(3,))
    assert not plan.lacks_orders
    assert {(one, 3) for one in range(3)} <= set(orders(episodes))
    assert len({len(episode) for episode in episodes}) == 6
    assert len(set(episodes)) > 30


def test_where_every_action_ends_the_episode_each_is_played():
    episodes, plan = played(3, 5, 6, endings=(0, 1, 2))
    assert Counter(episodes) == {(0,): 2, (1,): 2, (2,): 2}
    assert not plan.lacks_orders


def test_an_episode_that_was_not_played_counts_for_nothing():
    plan = ValidPlan([DrawnAction((0,))], 3, random.Random(0))
    plan.episode()
    plan.note(0, ended=False)
    assert plan.lacks_orders
