import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.viewer.ratios import max_ratios

logprobs = st.floats(-5, 0, width=32)
tokens = st.lists(st.tuples(logprobs, logprobs | st.just(math.nan)), max_size=4)
episodes = st.lists(st.tuples(tokens, tokens, st.booleans(), st.booleans()), max_size=4)


@settings(max_examples=50)
@given(drawn=episodes)
def test_the_largest_ratio_is_that_of_the_token_on_which_both_differ_most(make, drawn):
    trajectories, said, expected = [], [], []
    for place, (first, second, has_two, has_learner) in enumerate(drawn):
        parts = (first, second) if has_two else (first,)
        turns = [make.turn([1], [2] * len(p), logprobs=[s for s, _ in p]) for p in parts]
        trajectories.append(make.episode(*turns))
        seen = [token for part in parts for token in part]
        if has_learner:
            said.append((0, place, [learner for _, learner in seen], [0.0]))
        both = [abs(s - learner) for s, learner in seen if has_learner and not math.isnan(learner)]
        expected.append(math.exp(max(both)) if both else math.nan)
    members = {member.member: member for member in make.trained(0, *said).members}
    np.testing.assert_allclose(max_ratios(trajectories, members), expected, rtol=1e-6)


def test_what_only_one_of_them_said_has_no_ratio(make):
    turn = make.turn([1], [2, 3])
    silent = replace(turn, ac=TokensWithLogprobs([2, 3], None))
    episodes = [make.episode(turn), make.episode(silent)]
    said = make.trained(0, (0, 0, [-1.0], [0]), (0, 1, [-1.0, -1.0], [0])).members
    found = max_ratios(episodes, {member.member: member for member in said})
    assert np.isnan(found).all()


def test_a_ratio_beyond_floats_is_a_number(make):
    episode = make.episode(make.turn([1], [2], logprobs=[-5000.0]))
    (member,) = make.trained(0, (0, 0, [0.0], [0])).members
    assert np.isfinite(max_ratios([episode], {0: member})).all()
