import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.rl.learner import reduce_metrics, split_evenly


@given(items=st.lists(st.integers(), max_size=30), num_parts=st.integers(1, 10))
def test_parts_are_consecutive_even_and_never_empty(items, num_parts):
    parts = split_evenly(items, num_parts)
    assert [item for part in parts for item in part] == items
    assert len(parts) == min(num_parts, len(items))
    sizes = [len(part) for part in parts]
    assert not sizes or (min(sizes) >= 1 and max(sizes) - min(sizes) <= 1)


def test_metrics_of_several_requests_are_reduced_as_their_names_say():
    reported = [
        {"loss:sum": 1.0, "norm:mean": 2.0, "low:min": 1.0, "high:max": 1.0, "clock:unique": 7.0},
        {"loss:sum": 2.0, "norm:mean": 4.0, "low:min": 3.0, "high:max": 3.0, "plain": 5.0},
    ]
    assert reduce_metrics(reported) == {
        "loss": 3.0,
        "norm": 3.0,
        "low": 1.0,
        "high": 3.0,
        "plain": 5.0,
    }
    assert reduce_metrics([]) == {}
    assert reduce_metrics([{"loss:sum": 0.1}])["loss"] == pytest.approx(0.1)
