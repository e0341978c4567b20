"""A run that is cut off anywhere goes on as if it had not been."""

import gc
import os
import random
import signal
from contextlib import contextmanager

import anyio
import pytest

from tinker_rl.clients import TrainingClient
from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSampler
from tinker_rl.errors import CheckpointError, KLLimitError
from tinker_rl.rl import main
from tinker_rl.rl.journal import JOURNAL_FILE, Journal, cut_journal
from tinker_rl.types import ModelInput

SCHEDULES = {
    "fixed": {"async_config": (2, 2)},
    "streaming": {"async_config": (1, 2), "num_minibatches": 2},
    "evaluated": {"async_config": (2, 2), "eval_every": 2, "save_every": 2},
}


def options_of(name, runs):
    options = dict(SCHEDULES[name])
    parts = options.pop("num_minibatches", None)
    return {
        "dataset_builder": runs.Data(held_out=name == "evaluated", num_batches=6),
        "kl_warn": 10.0,
        **options,
        "async_config": runs.fixed(*options["async_config"]),
        "stream_minibatch_config": runs.stream(parts) if parts else None,
    }


@pytest.mark.parametrize(
    ("name", "backend"), [("fixed", "trio"), ("streaming", "asyncio"), ("evaluated", "trio")]
)
def test_a_run_that_is_cut_off_again_and_again_ends_as_the_unbroken_one(
    runs, backend, world, tmp_path, name
):
    options = options_of(name, runs)
    unbroken = runs.unbroken(**options)
    world.sleep_at_random(4)
    rng = random.Random(name)
    config = runs.config(tmp_path, **options)
    num_cuts = 0
    for _ in range(4):
        finished = finished_groups(tmp_path, runs)
        world.made.clear()
        num_cuts += runs.run_for(rng.randint(3, 24), config, backend)
        assert not finished & world.made.keys()
    assert num_cuts >= 2
    finished = finished_groups(tmp_path, runs)
    world.made.clear()
    runs.run(config, backend)
    assert not finished & world.made.keys()
    check_equal(tmp_path, unbroken, runs)
    assert runs.trained(tmp_path) == list(range(12))


def finished_groups(log_path, runs):
    return runs.records(log_path).groups.keys() if (log_path / "journal.bin").exists() else set()


def check_equal(broken, unbroken, runs):
    assert runs.hashes(broken) == runs.hashes(unbroken)
    assert runs.rows(broken) == runs.rows(unbroken)
    assert runs.account(broken) == runs.account(unbroken)


class Interrupted:
    """A service whose models are interrupted once, at a numbered gradient."""

    def __init__(self, service, at):
        self.service, self.at, self.num_gradients = service, at, 0

    def __getattr__(self, name):
        return getattr(self.service, name)

    async def create_lora_training_client_async(self, *args, **kwargs):
        model = await self.service.create_lora_training_client_async(*args, **kwargs)
        interrupted = self

        class Model(TrainingClient):
            async def forward_backward_async(self, *args, **kwargs):
                interrupted.num_gradients += 1
                if interrupted.num_gradients == interrupted.at:
                    os.kill(os.getpid(), signal.SIGINT)
                    await anyio.sleep(0.01)
                return await super().forward_backward_async(*args, **kwargs)

        return Model(model._backend, model._info)


def test_an_interrupt_between_minibatches_leaves_no_half_trained_checkpoint(
    runs, backend, world, tmp_path
):
    """The fifth gradient is the first of the third batch; the other half of it hangs."""

    async def hang(group, member, turn):
        if group == 5:
            await anyio.sleep_forever()

    options = {"stream_minibatch_config": runs.stream(2)}
    unbroken = runs.unbroken(**options)
    config = runs.config(tmp_path, **options)
    world.before_step = hang
    summary = runs.run(config, backend, Interrupted(runs.service, at=5))
    assert (summary.interrupted, summary.num_steps_done) == (True, 2)
    assert runs.checkpoints(tmp_path) == []
    world.reset()
    runs.run(config, backend)
    check_equal(tmp_path, unbroken, runs)


def test_an_interrupt_of_the_last_minibatch_finishes_and_saves_the_step(
    runs, backend, world, tmp_path
):
    options = {"stream_minibatch_config": runs.stream(2), "async_config": runs.fixed(1)}
    unbroken = runs.unbroken(**options)
    config = runs.config(tmp_path, **options)
    summary = runs.run(config, backend, Interrupted(runs.service, at=4))
    assert (summary.interrupted, summary.num_steps_done) == (True, 2)
    assert [record["batch"] for record in runs.checkpoints(tmp_path)] == [2]
    runs.run(config, backend)
    check_equal(tmp_path, unbroken, runs)


@pytest.mark.parametrize("parts", [1, 2])
def test_streaming_on_policy_learns_what_a_whole_batch_would(runs, world, tmp_path, parts):
    """In one part it is the same request, so the same bits; in more, the same sum."""
    prompt = ModelInput.from_ints([5, 6, 7, 10, 9, 300, 4])
    world.sleep_at_random(5)
    scores, hashes = [], []
    for name, stream in (("whole", None), ("streamed", runs.stream(parts, 4))):
        log_path = tmp_path / name
        data = runs.Data(batch_size=4, num_batches=3 if parts == 1 else 1)
        summary = runs.run(runs.config(log_path, data, stream_minibatch_config=stream))
        client = runs.service.create_sampling_client(summary.checkpoint.sampler_path)
        scores.append(client.compute_logprobs(prompt).result()[1:])
        hashes.append(runs.hashes(log_path))
    base = runs.service.create_sampling_client(base_model="tiny")
    before = base.compute_logprobs(prompt).result()[1:]
    assert (hashes[0] == hashes[1]) == (parts == 1)
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert max(abs(a - b) for a, b in zip(before, scores[0], strict=True)) > 1e-2


def test_changed_options_go_on_from_the_weights_that_the_old_ones_made(runs, world, tmp_path):
    """As a run does that stopped of itself, with a checkpoint, where the other was cut off."""
    first = {"async_config": runs.fixed(1), "learning_rate": 1e-3}
    then = {
        "async_config": runs.fixed(1, 4),
        "learning_rate": 2e-3,
        "dataset_builder": runs.Data(batch_size=4, num_batches=4),
        "behavior_if_log_dir_exists": "resume",
    }
    runs.run(runs.config(tmp_path / "unbroken", max_steps=2, **first))
    cut_off_at(6, runs.config(tmp_path / "broken", max_steps=4, **first), runs, world)
    old_rows = runs.rows(tmp_path / "broken")
    assert [row["step"] for row in old_rows] == [0, 1]
    assert runs.checkpoints(tmp_path / "broken") == []

    for name in ("unbroken", "broken"):
        runs.run(runs.config(tmp_path / name, **then))
        assert len(runs.records(tmp_path / name, "journal.1.bin").commits) == 2
        assert [c.step for c in runs.records(tmp_path / name).commits] == [2, 3]
    assert runs.rows(tmp_path / "broken")[:2] == old_rows
    assert [row["optim/lr"] for row in runs.rows(tmp_path / "broken")] == [1e-3, 1e-3, 2e-3, 2e-3]
    assert runs.hashes(tmp_path / "broken") == runs.hashes(tmp_path / "unbroken")
    assert runs.trained(tmp_path / "broken") == list(range(8, 16))


def cut_off_at(group, config, runs, world, backend="trio"):
    """Cancel a run when a group begins, while the one before it is under way."""

    async def linger(number, member, turn):
        if number == group - 1:
            await anyio.sleep_forever()

    async def cut_off():
        with anyio.CancelScope() as scope:
            world.before_step = linger
            world.on_make = lambda number: scope.cancel() if number == group else None
            await main(config, runs.service)
        assert scope.cancelled_caught

    anyio.run(cut_off, backend=backend)
    world.reset()


@contextmanager
def broken_publish(number):
    """Has the sampler get a damaged version: of those published in the block, counted from 0."""
    original, seen = EmbeddedSampler.add_version, []

    def add_version(self, version, weights):
        seen.append(version)
        if len(seen) - 1 == number:
            tensors = {
                name: t + 0.5 if "lora_B" in name else t for name, t in weights.tensors.items()
            }
            weights = type(weights)(tensors, weights.scale, weights.content_hash)
        return original(self, version, weights)

    gc.unfreeze()
    gc.collect()  # the engine still knows weights that a client of an earlier run holds
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddedSampler, "add_version", add_version)
        yield


def test_a_version_that_could_not_act_does_not_act_after_a_restart_either(runs, world, tmp_path):
    """Version 2 is broken. Groups 10 and 11 would start with it, after the cut at group 10."""
    data = runs.Data(num_batches=6)
    options = {"async_config": runs.fixed(2), "on_weight_sync_error": "continue"}
    with broken_publish(2):
        runs.run(runs.config(tmp_path / "unbroken", data, **options))
    with broken_publish(2):
        config = runs.config(tmp_path / "broken", data, **options)
        cut_off_at(10, config, runs, world, "asyncio")
    assert runs.records(tmp_path / "broken").commits[1].acting_version == 1
    runs.run(config)
    found = [runs.records(tmp_path / name) for name in ("unbroken", "broken")]
    acted = [[record.policy_version for record in run.groups.values()] for run in found]
    assert acted[0] == acted[1] == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 3, 3]
    assert [c.acting_version for c in found[0].commits] == [1, 1, 3, 4, 5, 6]
    assert [c.acting_version for c in found[1].commits] == [1, 1, 3, 4, 5, 6]
    assert [c.weight_hash for c in found[0].commits] == [c.weight_hash for c in found[1].commits]


def test_a_run_that_drifts_past_its_limit_stops_with_its_training_kept(
    runs, backend, world, tmp_path
):
    drifts = {"async_config": runs.fixed(2), "kl_warn": 1e-9}
    with pytest.raises(KLLimitError, match=r"expected optim/kl_sample_train_v2 of at most 1e-08"):
        runs.run(runs.config(tmp_path, kl_stop=1e-8, **drifts), backend)
    steps = len(runs.rows(tmp_path))
    assert 2 <= steps <= 3
    assert [record["batch"] for record in runs.checkpoints(tmp_path)] == [steps]
    runs.run(runs.config(tmp_path, **drifts), backend)
    assert runs.trained(tmp_path) == list(range(10))


def test_a_journal_that_was_cut_takes_its_checkpoints_along(runs, world, tmp_path, capsys):
    """Steps that it does not hold are done again, from the newest checkpoint that it knows of."""
    options = {"save_every": 1, "max_steps": 4}
    unbroken = runs.unbroken(**options)
    config = runs.config(tmp_path, **options)
    runs.run(config)
    cut_before(5, tmp_path / JOURNAL_FILE)
    runs.run(config)
    assert "checkpoints after step 2 are left out" in capsys.readouterr().out
    assert [record["batch"] for record in runs.checkpoints(tmp_path)] == [1, 2, 3, 4]
    check_equal(tmp_path, unbroken, runs)


def cut_before(group, path):
    with Journal.read(path) as journal:
        offset = journal.groups[group]
    cut_journal(path, offset)


def test_old_versions_that_are_gone_are_named_with_what_can_be_done(runs, world, tmp_path):
    """The weights that group 5 starts with were deleted when batch 2 was trained on."""
    config = runs.config(tmp_path, async_config=runs.fixed(1), save_every=1, max_steps=4)
    runs.run(config)
    cut_before(5, tmp_path / JOURNAL_FILE)
    with pytest.raises(CheckpointError, match=r"version 1: expected its saved .*lag=newest"):
        runs.run(config)
    options = {"async_config": runs.ahead(1), "behavior_if_log_dir_exists": "resume"}
    runs.run(runs.config(tmp_path, save_every=1, max_steps=4, **options))
    assert [row["step"] for row in runs.rows(tmp_path)] == [0, 1, 2, 3]


def test_a_run_whose_journal_begins_after_its_checkpoints_says_so(runs, world, tmp_path):
    first = {"async_config": runs.fixed(1), "save_every": 1}
    runs.run(runs.config(tmp_path, max_steps=2, **first))
    changed = {**first, "learning_rate": 2e-3, "behavior_if_log_dir_exists": "resume"}
    runs.run(runs.config(tmp_path, max_steps=3, **changed))
    lines = (tmp_path / "checkpoints.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "checkpoints.jsonl").write_text(lines[0])
    with pytest.raises(CheckpointError, match="expected a checkpoint of step 2, with which"):
        runs.run(runs.config(tmp_path, **changed))
