import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import ShapeError
from tinker_rl.rl.advantages import (
    compute_advantages,
    group_advantages,
    has_constant_reward,
    remove_constant_reward_groups,
)

finite = st.floats(-1e6, 1e6)


@given(reward_G=st.lists(finite, min_size=1, max_size=20))
def test_advantages_sum_to_zero_and_keep_the_differences(reward_G):
    advantages = group_advantages(reward_G)
    scale = 1 + max(map(abs, reward_G))
    assert abs(advantages.sum()) <= 1e-9 * scale * len(reward_G)
    differences = np.subtract.outer(advantages, advantages)
    assert np.allclose(differences, np.subtract.outer(reward_G, reward_G), atol=1e-9 * scale)


@given(reward_G=st.lists(finite, min_size=1, max_size=20), shift=finite)
def test_a_constant_on_every_reward_changes_nothing(reward_G, shift):
    shifted = group_advantages([reward + shift for reward in reward_G])
    assert np.allclose(shifted, group_advantages(reward_G), atol=1e-8 * 1e2)


@given(reward=finite, size=st.integers(1, 20))
def test_equal_rewards_leave_exact_zeros(reward, size):
    assert not group_advantages([reward] * size).any()


@given(
    reward_G=st.lists(finite, min_size=1, max_size=5),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
    data=st.data(),
)
def test_rewards_that_are_no_numbers_are_refused(reward_G, bad, data):
    reward_G[data.draw(st.integers(0, len(reward_G) - 1))] = bad
    with pytest.raises(ShapeError, match="finite"):
        group_advantages(reward_G)


@pytest.mark.parametrize("bad", [[], [[1.0, 2.0]], 1.0])
def test_anything_but_the_returns_of_one_group_is_refused(bad):
    with pytest.raises(ShapeError, match=r"shape \[G\]"):
        group_advantages(bad)


@given(data=st.data())
def test_returns_count_the_steps_and_the_final_reward(episodes, data):
    group = data.draw(episodes.groups())
    returns = [
        math.fsum(t.reward for t in trajectory.transitions) + final
        for trajectory, final in zip(group.trajectories_G, group.final_rewards_G, strict=True)
    ]
    (advantages,) = compute_advantages([group])
    assert np.allclose(advantages, np.array(returns) - np.mean(returns), atol=1e-6)


@given(data=st.data())
def test_groups_without_anything_to_learn_are_removed_and_no_others(episodes, data):
    zero_or_one = st.sampled_from([0.0, 1.0])
    drawn = data.draw(st.lists(episodes.groups(step_rewards=zero_or_one), max_size=5))
    kept = remove_constant_reward_groups(drawn)
    assert [id(group) for group in kept] == [
        id(group) for group in drawn if not has_constant_reward(group)
    ]
    for group in drawn:
        varies = bool(compute_advantages([group])[0].any())
        assert varies == (not has_constant_reward(group))
