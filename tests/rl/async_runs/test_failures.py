"""Failures in asynchronous runs: tried again, left out or dropped, and never in the way."""

import anyio
import pytest

from tinker_rl.errors import EnvError
from tinker_rl.rl import MinViable, Retry
from tinker_rl.rl.journal import JOURNAL_FILE, Journal


def failing(*cases, times=1):
    """Steps of these (group, member) fail, so many times each."""
    left = dict.fromkeys(cases, times)

    async def fail(group, member, turn):
        if left.get((group, member), 0) > 0 and turn == 0:
            left[group, member] -= 1
            raise OSError("the sandbox is gone")

    return fail


def steps(log_path, runs):
    return [row for row in runs.rows(log_path) if "progress/batch" in row]


def test_a_retried_episode_leaves_a_whole_group(runs, world, tmp_path):
    world.before_step = failing((3, 1))
    options = {"async_config": runs.fixed(2), "max_failed_group_fraction": 0.0}
    runs.run(runs.config(tmp_path, group_policy=Retry(n=1), **options))
    group = runs.records(tmp_path).groups[3].outcome
    assert len(group.group.trajectories_G) == 2
    assert [(f.member, f.attempt) for f in group.failures] == [(1, 0)]
    row = steps(tmp_path, runs)[1]
    assert row["rollout_errors/groups_skipped"] == 0
    assert row["useful_token_fraction"] < 1


def test_a_group_with_enough_left_trains_without_the_failed(runs, world, tmp_path):
    world.before_step = failing((3, 1), times=9)
    data = runs.Data(group_size=3)
    options = {"async_config": runs.ahead(2), "max_failed_group_fraction": 0.0}
    runs.run(runs.config(tmp_path, data, group_policy=MinViable(n=2), **options))
    group = runs.records(tmp_path).groups[3].outcome
    assert group.members == (0, 2)
    assert steps(tmp_path, runs)[1]["env/all/total_episodes"] == 5
    assert runs.trained(tmp_path) == list(range(10))


def test_a_dropped_group_keeps_its_place_and_its_batch_trains(runs, world, tmp_path):
    world.before_step = failing((3, 1))
    runs.run(runs.config(tmp_path, async_config=runs.fixed(2)))
    rows = steps(tmp_path, runs)
    assert [row["rollout_errors/groups_skipped"] for row in rows] == [0, 1, 0, 0, 0]
    assert rows[1]["env/all/total_episodes"] == 2
    assert runs.trained(tmp_path) == list(range(10))


def test_past_the_error_budget_the_run_stops_and_keeps_what_it_committed(
    runs, backend, world, tmp_path
):
    world.before_step = failing((4, 0), (5, 0), times=9)
    options = {"async_config": runs.fixed(2), "max_failed_group_fraction": 0.2}
    with pytest.raises(EnvError, match=r"got 2 of 6:\n  2 x environment, in step .*: OSError"):
        runs.run(runs.config(tmp_path, **options), backend)
    assert [row["step"] for row in runs.rows(tmp_path)] == [0, 1]
    assert [record["batch"] for record in runs.checkpoints(tmp_path)] == [2]
    with Journal.read(tmp_path / JOURNAL_FILE) as journal:
        assert sorted(failure.group for failure in journal.failures) == [4, 5]
        assert not journal.heads.keys() & {4, 5}
    world.reset()
    runs.run(runs.config(tmp_path, **options), backend)
    assert runs.trained(tmp_path) == list(range(10))
    assert all(row["rollout_errors/groups_skipped"] == 0 for row in steps(tmp_path, runs))


def test_a_dropped_group_is_tried_again_by_a_restart_before_its_batch_trains(runs, world, tmp_path):
    """Group 3 fails at once; group 2, of the same batch, is under way when the run is cut off."""
    config = runs.config(tmp_path, async_config=runs.fixed(2))
    unbroken = runs.unbroken(async_config=runs.fixed(2))
    fail = failing((3, 1))

    async def fail_or_hang(group, member, turn):
        await fail(group, member, turn)
        if group == 2:
            await anyio.sleep_forever()

    world.reset()
    world.before_step = fail_or_hang
    metrics = tmp_path / "metrics.jsonl"
    runs.run_until(lambda: metrics.exists() and metrics.read_text().count("\n"), config)
    assert runs.trained(tmp_path) == [0, 1]
    assert 3 not in runs.records(tmp_path).groups
    world.reset()
    runs.run(config)
    assert world.made[3] == 1
    assert runs.account(tmp_path) == runs.account(unbroken)
