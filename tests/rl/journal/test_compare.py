import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tinker_rl.rl.journal import EvaluationRecord, StartRecord, encode, without_times
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure, RolloutTimes


def same(one, other):
    return encode(without_times(one)) == encode(without_times(other))


@given(data=st.data())
def test_times_of_groups_do_not_count_and_all_else_does(records, data):
    record = data.draw(records.groups().filter(lambda record: record.outcome is not None))
    times = RolloutTimes(seconds=data.draw(st.floats(0, 9)), env_seconds=1.0)
    assert same(record, replace(record, outcome=replace(record.outcome, times=times)))
    assert not same(record, replace(record, outcome=replace(record.outcome, cleanup_error="new")))
    assert not same(record, replace(record, outcome=None))
    assert not same(record, replace(record, policy_version=record.policy_version + 1))


def test_tokens_sampled_in_vain_do_not_count(records):
    failure = EnvFailure("step", "OSError", "gone")
    one, other = (
        records.finished(0, DroppedGroup(failure=failure, member=1, num_sampled_tokens=number))
        for number in (3, 4)
    )
    assert same(one, other)


@given(data=st.data())
def test_of_failures_neither_times_nor_tokens_count_and_all_else_does(records, data):
    record = data.draw(records.failures())
    outcome = replace(record.outcome, times=RolloutTimes(seconds=7.0), num_sampled_tokens=5)
    assert same(record, replace(record, outcome=outcome))
    assert not same(record, replace(record, outcome=replace(record.outcome, member=17)))
    assert not same(record, replace(record, group=record.group + 1))


def test_of_commits_only_times_and_paths_do_not_count(records):
    timed = {"time/train": 1.0, "sync/load_seconds": 2.0}
    one = records.commit(1, 2, weight_hash="a", metrics={"loss": math.nan, **timed})
    other = records.commit(
        1, 2, weight_hash="a", sampler_path="b", metrics={"tokens_per_second": 3, "loss": math.nan}
    )
    assert same(one, other)
    for change in ({"weight_hash": "b"}, {"metrics": {"loss": 1.0}}, {"groups": (3,)}):
        assert not same(one, replace(one, **change))


@pytest.mark.parametrize("metrics", [{"time/eval": 1.0}, {"b": 1.0, "a": 2.0}])
def test_of_evaluations_neither_times_nor_order_count(metrics):
    timeless = {name: metrics[name] for name in ("a", "b") if name in metrics}
    one = EvaluationRecord(version=1, metrics=metrics)
    assert same(one, EvaluationRecord(version=1, metrics=timeless))
    assert not same(one, EvaluationRecord(version=1, metrics={"c": 1.0}))


def test_of_starts_the_path_does_not_count():
    one = StartRecord(version=1, weight_hash="a", sampler_path="b")
    assert same(one, StartRecord(version=1, weight_hash="a"))
    assert not same(one, StartRecord(version=1, weight_hash="b"))
