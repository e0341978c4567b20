"""Good episodes with one thing wrong."""

import random

from tinker_rl.testing import DrawnAction
from tinker_rl.testing.strategies.mutations import broken_late, misplaced

A, B, C = (DrawnAction((number, 0)) for number in (1, 2, 3))
HARD = [DrawnAction((number,), kind="malformed") for number in (7, 8, 9)]


def test_one_action_is_dropped_doubled_cut_off_or_another():
    cut = [DrawnAction((number,), "length", "truncated") for number in (1, 2)]
    made = misplaced([(A, B)], [A, B], random.Random(0))
    assert set(made) == {
        (B,),
        (A,),
        (A, A, B),
        (A, B, B),
        (cut[0], B),
        (A, cut[1]),
        (B, B),
        (A, A),
    }
    assert len(set(made)) == len(made)


def test_another_action_is_one_that_was_named():
    made = misplaced([(A,)], [A, B, C], random.Random(0))
    assert {(B,), (C,)} & set(made)
    assert () not in made


def test_each_hard_action_comes_once_and_the_rest_is_as_it_was():
    made = broken_late([(A, B, C), (B,)], HARD * 4, random.Random(0))
    assert len(made) == 12
    assert {episode for episode in made if len(episode) == 1} <= {(hard,) for hard in HARD}
    places = {
        turn for episode in made for turn, a in enumerate(episode) if a in HARD and len(episode) > 1
    }
    assert places == {0, 1, 2}
    assert all(sum(action in HARD for action in episode) == 1 for episode in made)
