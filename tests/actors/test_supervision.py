"""The restart budget: pure arithmetic on times."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.actors import Restart, RestartBudget

policies = st.builds(
    Restart,
    max_restarts=st.integers(0, 5),
    within_seconds=st.integers(0, 20).map(float),
    backoff_seconds=st.integers(0, 8).map(float),
    max_backoff_seconds=st.integers(0, 40).map(float),
)
times = st.lists(st.integers(0, 10), max_size=30).map(
    lambda gaps: [float(sum(gaps[: i + 1])) for i in range(len(gaps))]
)


@given(policy=policies, times=times)
def test_a_restart_is_granted_exactly_while_the_window_holds_fewer_than_allowed(policy, times):
    budget = RestartBudget(policy)
    granted = []
    for now in times:
        in_window = [t for t in granted if now - t < policy.within_seconds]
        pause = budget.spend(now)
        assert (pause is not None) == (len(in_window) < policy.max_restarts)
        if pause is not None:
            expected = policy.backoff_seconds * 2 ** len(in_window)
            assert pause == min(expected, policy.max_backoff_seconds)
            granted.append(now)


@given(policy=policies, times=times)
def test_no_window_ever_holds_more_restarts_than_allowed(policy, times):
    budget = RestartBudget(policy)
    granted = [now for now in times if budget.spend(now) is not None]
    for start in granted:
        in_window = [t for t in granted if start <= t < start + policy.within_seconds]
        assert len(in_window) <= policy.max_restarts


def test_the_pause_stays_finite_after_thousands_of_restarts():
    budget = RestartBudget(Restart(max_restarts=5000, backoff_seconds=0.5, max_backoff_seconds=7))
    assert [budget.spend(0.0) for _ in range(5000)][-1] == 7
    assert budget.spend(0.0) is None


@pytest.mark.parametrize("value", [-1, math.nan])
@pytest.mark.parametrize(
    "name", ["max_restarts", "within_seconds", "backoff_seconds", "max_backoff_seconds"]
)
def test_a_negative_or_undefined_setting_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"Restart\.{name}: expected 0 or more; got {value}"):
        Restart(**{name: value})
