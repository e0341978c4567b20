"""Weights that the sampler does not have as the learner does: faults inside the real engine."""

import gc
import json

import anyio
import chz
import pytest

from tinker_rl.engine.samplers.embedded.host import EmbeddedHost
from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSampler
from tinker_rl.envs import Env, EnvGroupBuilder, RLDataset, RLDatasetBuilder, StepResult
from tinker_rl.errors import LearnerError, WeightSyncError
from tinker_rl.rl import Config, main
from tinker_rl.types import ModelInput

NUM_STEPS = 5


class EvenTokens(Env):
    """One turn; earns the share of even tokens."""

    async def initial_observation(self):
        return ModelInput.from_ints([5, 6, 7]), []

    async def step(self, action):
        reward = sum(token % 2 == 0 for token in action) / len(action)
        return StepResult(reward, True, ModelInput.empty(), [], {"even": reward})


class Group(EnvGroupBuilder):
    async def make_envs(self):
        return [EvenTokens() for _ in range(4)]


class Groups(RLDataset):
    def get_batch(self, index):
        return [Group(), Group()]

    def __len__(self):
        return NUM_STEPS


@chz.chz
class Data(RLDatasetBuilder):
    async def __call__(self):
        return Groups(), Groups()


def config(log_path, **options):
    return Config(
        **{
            "learning_rate": 1e-2,
            "dataset_builder": Data(),
            "model_name": "tiny",
            "max_tokens": 4,
            "log_path": str(log_path),
            "lora_rank": 4,
            "eval_every": 0,
            "save_every": 0,
            **options,
        }
    )


def run(service, config, backend="trio"):
    gc.unfreeze()
    gc.collect()  # the engine still knows weights that a client of an earlier run holds
    gc.freeze()
    return anyio.run(main, config, service, backend=backend)


def lines(log_path, name="metrics.jsonl"):
    path = log_path / name
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if name != "metrics.jsonl":
        return found
    by_step = {}  # an evaluation has a row of its own
    for row in found:
        by_step.setdefault(row["step"], {}).update(row)
    return [by_step[step] for step in sorted(by_step)]


def acting_versions(log_path):
    """Of each step, the versions that its shown actions are marked with."""
    return [
        {
            turn["policy_version"]
            for episode in lines(file.parent, file.name)
            for turn in episode["turns"]
        }
        for file in sorted((log_path / "transcripts").glob("*.jsonl"))
    ]


@pytest.fixture
def break_publish(monkeypatch):
    """Has the engine damage the adapters of some publishes, counted from 0, on their way."""

    def breaking(*numbers, how="tensors"):
        original = EmbeddedSampler.add_version
        seen = []

        def add_version(self, version, weights):
            seen.append(version)
            if len(seen) - 1 in numbers:
                if how == "memory":
                    raise MemoryError("no room for an adapter")
                tensors = {
                    name: t + 0.5 if "lora_B" in name else t for name, t in weights.tensors.items()
                }
                weights = type(weights)(tensors, weights.scale, weights.content_hash)
            return original(self, version, weights)

        monkeypatch.setattr(EmbeddedSampler, "add_version", add_version)
        return seen

    return breaking


def test_every_step_tells_how_its_weights_were_proved_and_how_long_it_took(service, tmp_path):
    run(service, config(tmp_path))
    for row in lines(tmp_path):
        assert 0 <= row["sync/max_abs_logprob_diff"] < 1e-3
        parts = [row[f"sync/{part}_seconds"] for part in ("score", "load", "probe")]
        assert all(part > 0 for part in parts)
        assert sum(parts) <= row["time/publish"]
        assert row["sync/failures"] == 0


def test_a_run_goes_on_with_the_last_good_version_and_comes_back(
    service, backend, tmp_path, break_publish, capsys
):
    seen = break_publish(2, 3)
    run(service, config(tmp_path, on_weight_sync_error="continue", eval_every=3), backend)
    rows, last = lines(tmp_path)[:-1], lines(tmp_path)[-1]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["sync/failures"] for row in rows] == [0, 1, 2, 0, 0]
    differences = [row["sync/max_abs_logprob_diff"] for row in rows]
    assert [difference > 1e-3 for difference in differences] == [False, True, True, False, False]
    assert [("sync/load_seconds" in row) for row in rows] == [True, False, False, True, True]

    assert acting_versions(tmp_path) == [{0}, {1}, {1}, {1}, {4}]
    ages = [(row["async/staleness_min"], row["async/staleness_max"]) for row in rows]
    assert ages == [(0, 0), (0, 0), (1, 1), (2, 2), (0, 0)]
    # The learner finds the logprobs that were sampled with, so these weights did act, and no other.
    distances = [abs(row["optim/kl_sample_train_v2"]) for row in rows]
    assert [distance > 1e-6 for distance in distances] == [False, False, True, True, False]
    assert all("optim/loss" in row for row in rows)

    # What is due for version 3 is measured with the next one that acts.
    evaluated = [row["step"] for row in rows if "test/env/all/even" in row]
    assert evaluated == [0, 4]
    assert last["step"] == 5
    assert "test/env/all/even" in last
    assert len(set(seen)) == len(seen) == 6

    said = capsys.readouterr().out
    assert (
        "version 2 is not acted with (1 of at most 3 failures in a row); version 1 goes on" in said
    )
    assert (
        "version 3 is not acted with (2 of at most 3 failures in a row); version 1 goes on" in said
    )


def test_a_run_that_goes_on_stops_after_so_many_failures_in_a_row(service, tmp_path, break_publish):
    break_publish(1, 3, 4)
    bears_with = {"on_weight_sync_error": "continue", "max_weight_sync_failures": 2}
    with pytest.raises(WeightSyncError, match=r"expected the sampler's logprobs"):
        run(service, config(tmp_path, **bears_with))
    assert [row["sync/failures"] for row in lines(tmp_path)] == [1, 0, 1, 2]
    assert [record["batch"] for record in lines(tmp_path, "checkpoints.jsonl")] == [4]


def test_a_run_stops_with_its_training_kept_and_the_same_command_goes_on(
    service, backend, tmp_path, break_publish, monkeypatch, capsys
):
    unbroken = tmp_path / "unbroken"
    run(service, config(unbroken))
    capsys.readouterr()
    broken = tmp_path / "broken"
    break_publish(2)
    with pytest.raises(WeightSyncError) as raised:
        run(service, config(broken), backend)
    assert raised.value.difference > 1e-3
    assert raised.value.version in str(raised.value)
    assert "version 2 could not be published, so the run stops" in capsys.readouterr().out
    rows = lines(broken)
    assert [row["step"] for row in rows] == [0, 1]
    assert rows[1]["sync/failures"] == 1
    assert rows[1]["sync/max_abs_logprob_diff"] == raised.value.difference
    assert [record["batch"] for record in lines(broken, "checkpoints.jsonl")] == [2]

    monkeypatch.undo()
    summary = run(service, config(broken), backend)
    assert summary.num_steps_done == NUM_STEPS
    for row, expected in zip(lines(broken), lines(unbroken), strict=True):
        assert row["env/all/reward/total"] == expected["env/all/reward/total"]
        assert row["optim/loss"] == expected["optim/loss"]
        assert row["async/staleness_max"] == 0


@pytest.mark.parametrize("behavior", ["stop", "continue"])
def test_without_a_good_version_there_is_nothing_to_go_on_with(
    service, tmp_path, break_publish, monkeypatch, behavior
):
    break_publish(0)
    with pytest.raises(WeightSyncError):
        run(service, config(tmp_path, on_weight_sync_error=behavior))
    assert not lines(tmp_path)
    assert not lines(tmp_path, "checkpoints.jsonl")
    monkeypatch.undo()
    assert run(service, config(tmp_path, max_steps=1)).num_steps_done == 1


def test_no_later_version_can_mend_the_last_one(service, tmp_path, break_publish, monkeypatch):
    options = {"on_weight_sync_error": "continue", "max_steps": 2, "eval_every": 2}
    break_publish(2)
    with pytest.raises(WeightSyncError):
        run(service, config(tmp_path, **options))
    (record,) = lines(tmp_path, "checkpoints.jsonl")
    assert (record["batch"], record["final"]) == (2, True)
    assert [row["step"] for row in lines(tmp_path)] == [0, 1]
    monkeypatch.undo()
    summary = run(service, config(tmp_path, **options))
    assert summary.last_evaluation["step"] == 2


def test_other_bytes_than_were_published_are_no_version_either(service, tmp_path, monkeypatch):
    loads = []
    original = EmbeddedHost.load

    async def load(self, version, weights):
        loads.append(await original(self, version, weights))
        return loads[0] if len(loads) == 2 else loads[-1]

    monkeypatch.setattr(EmbeddedHost, "load", load)
    run(service, config(tmp_path, on_weight_sync_error="continue", max_steps=3))
    rows = lines(tmp_path)
    assert [row["sync/failures"] for row in rows] == [1, 0, 0]
    assert "sync/max_abs_logprob_diff" not in rows[0]  # it did not come to that
    assert acting_versions(tmp_path) == [{0}, {0}, {2}]


def test_any_other_error_of_publishing_stops_the_run_and_keeps_its_training(
    service, tmp_path, break_publish
):
    break_publish(2, how="memory")
    with pytest.raises(LearnerError, match="no room for an adapter"):
        run(service, config(tmp_path, on_weight_sync_error="continue"))
    assert [row["step"] for row in lines(tmp_path)] == [0, 1]
    assert [record["batch"] for record in lines(tmp_path, "checkpoints.jsonl")] == [2]
