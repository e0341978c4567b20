import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import ConfigError, KLLimitError, TinkerRLError
from tinker_rl.rl.kl_limit import METRIC, KLLimit

values = st.lists(st.none() | st.sampled_from([0.0, 1.0, 2.0, 3.0, 50.0, math.nan]), max_size=12)


def rows_of(values):
    return [{} if value is None else {METRIC: value} for value in values]


def observed(limit, rows, first=0):
    """What it said at each step, up to an error."""
    said = []
    for step, row in enumerate(rows, first):
        try:
            said.append(limit.observe(step, row))
        except KLLimitError as error:
            return [*said, error]
    return said


@given(values=values)
def test_it_warns_once_when_two_steps_in_a_row_are_above(values):
    said = observed(KLLimit(warn=1.0), rows_of(values))
    known = [(step, value) for step, value in enumerate(values) if value is not None]
    above = [not value <= 1.0 for _, value in known]
    expected = [
        step
        for place, (step, _) in enumerate(known)
        if place and above[place] and above[place - 1] and not (place > 1 and above[place - 2])
    ]
    assert [step for step, line in enumerate(said) if line is not None] == expected


@given(values=values)
def test_it_stops_at_the_second_step_in_a_row_that_is_above(values):
    said = observed(KLLimit(warn=1.0, stop=2.0), rows_of(values))
    known = [(step, value) for step, value in enumerate(values) if value is not None]
    above = [not value <= 2.0 for _, value in known]
    stops = [known[i][0] for i in range(1, len(known)) if above[i] and above[i - 1]]
    errors = [error for error in said if isinstance(error, KLLimitError)]
    assert [error.step for error in errors] == stops[:1]


@given(values=values, restarted_at=st.integers(0, 12))
def test_after_a_restart_it_goes_on_from_the_rows(values, restarted_at):
    rows = rows_of(values)
    expected = observed(KLLimit(warn=1.0, stop=49.0), rows)
    past = rows[:restarted_at]
    if any(isinstance(line, KLLimitError) for line in expected[:restarted_at]):
        return
    limit = KLLimit(warn=1.0, stop=49.0)
    limit.remember(past)
    said = observed(limit, rows[restarted_at:], first=restarted_at)
    assert list(map(str, said)) == list(map(str, expected[restarted_at:]))


def test_one_noisy_step_changes_nothing():
    said = observed(KLLimit(warn=0.1, stop=0.2), rows_of([0.01, 1e9, 0.01, math.nan, 0.01]))
    assert said == [None] * 5


def test_the_error_names_step_value_limit_and_what_to_do():
    limit = KLLimit(stop=0.5)
    limit.observe(6, {METRIC: 0.75})
    with pytest.raises(KLLimitError, match=r"at most 0.5 nats; got 0.875 at step 7, and 0.75") as e:
        limit.observe(7, {METRIC: 0.875})
    assert (e.value.step, e.value.value, e.value.limit) == (7, 0.875, 0.5)
    assert "Lower learning_rate" in str(e.value)
    assert isinstance(e.value, TinkerRLError)


def test_without_limits_it_is_silent():
    assert observed(KLLimit(), rows_of([1e9, 1e9, math.inf])) == [None] * 3


@pytest.mark.parametrize("limits", [(0, None), (None, -1.0), (2.0, 1.0), (math.nan, None)])
def test_limits_that_do_not_fit_are_refused(limits):
    with pytest.raises(ConfigError, match=r"KLLimit\.(warn|stop): expected"):
        KLLimit(*limits)
