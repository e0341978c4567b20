"""Whole runs of `tiny` through the real engine: what they write, and that nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import chz
import pytest

from tinker_rl.clients import ServiceClient, TrainingClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSamplerConfig
from tinker_rl.envs import Env, EnvGroupBuilder, RLDataset, RLDatasetBuilder, StepResult
from tinker_rl.envs.randomness import current_rng
from tinker_rl.errors import CheckpointError, ConfigError, EnvError, RequestError
from tinker_rl.rl import Config, RolloutLimits, main
from tinker_rl.types import ModelInput

NUM_STEPS = 4


class EvenTokens(Env):
    """Two turns on a growing conversation; earns the share of even tokens."""

    def __init__(self, number, turns=2):
        self.history = [5 + number % 7, 6, 7]
        self.turns = turns

    async def initial_observation(self):
        self.history.append(10 + current_rng().randrange(5))
        return ModelInput.from_ints(self.history), []

    async def step(self, action):
        self.turns -= 1
        reward = sum(token % 2 == 0 for token in action) / len(action)
        self.history += [*action, 9]
        return StepResult(
            reward, self.turns == 0, ModelInput.from_ints(self.history), [], {"even": reward}
        )


class Broken(EvenTokens):
    async def step(self, action):
        raise OSError("the sandbox is gone")


class Group(EnvGroupBuilder):
    def __init__(self, number, data):
        self.number = number
        self.data = data

    async def make_envs(self):
        kind = Broken if self.number in self.data.broken else EvenTokens
        return [kind(self.number, self.data.turns) for _ in range(self.data.group_size)]

    def logging_tags(self):
        return ["even"]


class Groups(RLDataset):
    def __init__(self, data, num_batches):
        self.data = data
        self.num_batches = num_batches

    def get_batch(self, index):
        size = self.data.batch_size
        return [Group(number, self.data) for number in range(index * size, index * size + size)]

    def __len__(self):
        return self.num_batches


@chz.chz
class Data(RLDatasetBuilder):
    batch_size: int = 2
    group_size: int = 2
    turns: int = 2
    num_batches: int = NUM_STEPS
    broken: tuple[int, ...] = ()
    held_out: bool = True

    async def __call__(self):
        return Groups(self, self.num_batches), Groups(self, 1) if self.held_out else None


def config(log_path, data=None, **options):
    return Config(
        **{
            "learning_rate": 1e-3,
            "dataset_builder": data or Data(),
            "model_name": "tiny",
            "max_tokens": 3,
            "log_path": str(log_path),
            "lora_rank": 4,
            "eval_every": 2,
            "save_every": 1,
            **options,
        }
    )


def open_service(home):
    sampler = EmbeddedSamplerConfig(deterministic=True)
    options = EngineOptions(home=str(home), threads=1, sampler=sampler)
    return ServiceClient(engine_options=options)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def service(home):
    with open_service(home) as client:
        yield client


def run(service, config, backend="trio"):
    return anyio.run(main, config, service, backend=backend)


def rows(log_path):
    """What is said of each step, its evaluation with it, without the times that things took."""
    by_step = {}
    for line in (Path(log_path) / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        known = by_step.setdefault(row["step"], {})
        timed = ("time/", "sampling/tokens_per_second", "optim/tokens_per_second")
        kept = {
            name: value
            for name, value in row.items()
            if not name.startswith(timed) and not name.endswith("_seconds")
        }
        assert known.keys() & kept.keys() <= {"step"}  # nothing is said twice
        known |= kept
    return [by_step[step] for step in sorted(by_step)]


def checkpoints(log_path):
    lines = (Path(log_path) / "checkpoints.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def unbroken(service, tmp_path_factory):
    """Rows of a run that nothing disturbed."""
    log_path = tmp_path_factory.mktemp("unbroken")
    run(service, config(log_path))
    return rows(log_path)


def test_a_run_leaves_a_row_a_step_and_what_it_takes_to_go_on_and_to_look(
    service, backend, tmp_path, unbroken
):
    summary = run(service, config(tmp_path), backend)
    assert rows(tmp_path) == unbroken
    assert [row["step"] for row in unbroken] == [0, 1, 2, 3, 4]
    trained, last = unbroken[:4], unbroken[4]
    for row in trained:
        assert row["useful_token_fraction"] == 1.0
        assert row["async/staleness_max"] == row["async/staleness_min"] == 0
        assert abs(row["optim/kl_sample_train_v1"]) < 1e-4
        assert 0 <= row["sync/max_abs_logprob_diff"] < 1e-3
        assert row["sync/failures"] == 0
        assert row["env/all/turns_per_episode"] == 2.0
        assert row["sampling/tokens"] == row["env/all/total_ac_tokens"] == 2 * 2 * 2 * 3
    evaluated = [row["step"] for row in unbroken if "test/env/all/even" in row]
    assert evaluated == [0, 2, 4]
    assert "optim/lr" not in last

    assert summary.num_steps_done == NUM_STEPS
    assert not summary.interrupted
    assert summary.first_evaluation["step"] == 0
    assert summary.last_evaluation["step"] == 4
    assert [(c["name"], c["batch"], c.get("final", False)) for c in checkpoints(tmp_path)] == [
        ("000001", 1, False),
        ("000002", 2, False),
        ("000003", 3, False),
        ("final", 4, True),
    ]
    assert json.loads((tmp_path / "config.json").read_text())["learning_rate"] == 1e-3
    names = {path.name for path in (tmp_path / "transcripts").iterdir()}
    assert names == {f"step_00000{i}.{kind}" for i in range(4) for kind in ("txt", "jsonl")}
    assert summary.checkpoint is not None
    sampler = service.create_sampling_client(model_path=summary.checkpoint.sampler_path)
    assert sampler.get_base_model() == "tiny"
    state = service.create_rest_client().get_weights_info_by_tinker_path(
        summary.checkpoint.state_path
    )
    assert state.result().lora_rank == 4


def test_a_finished_run_is_left_as_it_is(service, tmp_path, capsys):
    run(service, config(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    summary = run(service, config(tmp_path))
    assert summary.num_steps_done == NUM_STEPS
    assert "this run is complete" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("seconds", [0.3, 0.7])
def test_a_run_cut_off_anywhere_goes_on_as_if_it_had_not_been(
    service, backend, tmp_path, unbroken, seconds
):
    """Cancelled from outside, a run saves nothing more: as a kill does."""
    saves_seldom = config(tmp_path, save_every=2)

    async def cut_off():
        with anyio.move_on_after(seconds):
            await main(saves_seldom, service)

    anyio.run(cut_off, backend=backend)
    run(service, saves_seldom, backend)
    assert rows(tmp_path) == unbroken


def test_more_steps_go_on_where_fewer_ended(service, tmp_path, unbroken):
    run(service, config(tmp_path, max_steps=2))
    assert [row["step"] for row in rows(tmp_path)] == [0, 1, 2]
    run(service, config(tmp_path))
    without_fractions = [
        [{k: v for k, v in row.items() if k != "progress/done_frac"} for row in table]
        for table in (rows(tmp_path), unbroken)
    ]
    assert without_fractions[0] == without_fractions[1]
    summary = run(service, config(tmp_path, max_steps=3))  # there is nothing left to do
    assert summary.num_steps_done == NUM_STEPS


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    service, home, tmp_path, unbroken, caplog
):
    run(service, config(tmp_path, max_steps=3))
    newest = checkpoints(tmp_path)[-1]["state_path"]
    damage(home, newest)
    run(service, config(tmp_path))
    assert newest.rsplit("/", 1)[1] in caplog.text
    steps = [row["step"] for row in rows(tmp_path)]
    assert steps == [0, 1, 2, 3, 4]
    for row, expected in zip(rows(tmp_path), unbroken, strict=True):
        assert row.get("env/all/reward/total") == expected.get("env/all/reward/total")
        assert row.get("optim/loss") == expected.get("optim/loss")


def test_a_run_whose_checkpoints_are_all_gone_does_not_start_over_by_itself(
    service, home, tmp_path
):
    run(service, config(tmp_path, max_steps=2))
    for record in checkpoints(tmp_path):
        damage(home, record["state_path"])
    with pytest.raises(CheckpointError, match=r"one of 2 checkpoints.*TINKER_RL_HOME"):
        run(service, config(tmp_path))
    assert len(rows(tmp_path)) == 3
    run(service, config(tmp_path, behavior_if_log_dir_exists="delete", max_steps=1))
    assert len(rows(tmp_path)) == 2


def damage(home, path):
    """Empty every file of a checkpoint in the store."""
    name = path.rsplit("/", 1)[1]
    run_id = path.removeprefix("tinker://").split("/", 1)[0]
    folders = [
        folder
        for folder in Path(home).rglob(name)
        if folder.is_dir() and folder.parent.name == "weights" and run_id in _unquoted(folder)
    ]
    assert folders, path
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file():
                file.write_bytes(b"")


def _unquoted(folder):
    from urllib.parse import unquote

    return unquote(str(folder)).replace("_", ":") + unquote(str(folder))


def test_failed_groups_are_counted_and_left_out(service, tmp_path):
    data = Data(batch_size=4, broken=(1,), num_batches=1, held_out=False)
    run(service, config(tmp_path, data, max_failed_group_fraction=0.5))
    (row,) = rows(tmp_path)
    assert row["rollout_errors/groups_skipped"] == row["rollout_errors/OSError"] == 1
    assert row["env/all/total_episodes"] == 3 * 2
    assert 0 < row["useful_token_fraction"] < 1
    shown = (tmp_path / "transcripts" / "step_000000.txt").read_text()
    assert "group 1, member" in shown
    assert "OSError: the sandbox is gone" in shown


def test_a_run_stops_past_its_share_of_failed_groups_and_keeps_what_it_committed(
    service, backend, tmp_path
):
    data = Data(broken=(4, 5), held_out=False)
    broken = config(tmp_path, data, save_every=0)
    with pytest.raises(EnvError, match=r"got 2 of 6:\n  2 x environment, in step .*: OSError"):
        run(service, broken, backend)
    assert [row["step"] for row in rows(tmp_path)] == [0, 1]
    assert [record["batch"] for record in checkpoints(tmp_path)] == [2]
    mended = config(
        tmp_path, Data(held_out=False), save_every=0, behavior_if_log_dir_exists="resume"
    )
    run(service, mended, backend)
    assert [row["step"] for row in rows(tmp_path)] == [0, 1, 2, 3]


def test_a_batch_with_nothing_to_train_commits_all_the_same(service, tmp_path):
    data = Data(batch_size=2, broken=(2, 3), held_out=False)
    options = {"max_failed_group_fraction": 1.0, "remove_constant_reward_groups": True}
    run(service, config(tmp_path, data, **options))
    table = rows(tmp_path)
    assert [row["step"] for row in table] == [0, 1, 2, 3]
    assert "optim/loss" not in table[1]
    assert table[1]["rollout_errors/groups_skipped"] == 2
    assert table[2]["async/staleness_max"] == 0


def test_a_short_batch_keeps_its_numbers(service, tmp_path):
    class Short(Groups):
        def get_batch(self, index):
            return super().get_batch(index)[: 2 - index % 2]

    @chz.chz
    class ShortData(Data):
        async def __call__(self):
            return Short(self, NUM_STEPS), None

    run(service, config(tmp_path, ShortData()))
    assert [row["env/all/total_episodes"] for row in rows(tmp_path)] == [4, 2, 4, 2]


def test_groups_of_one_are_refused_since_they_teach_nothing(service, tmp_path):
    with pytest.raises(ConfigError, match="groups of at least two environments"):
        run(service, config(tmp_path, Data(group_size=1)))


def test_evaluators_see_the_weights_of_their_step(service, tmp_path):
    seen = []

    class Evaluator:
        name = "probe"

        async def __call__(self, sampling_client):
            logprobs = await sampling_client.compute_logprobs_async(ModelInput.from_ints([5, 6, 7]))
            seen.append(logprobs[1])
            return {"probe/logprob": logprobs[1]}

    options = {"evaluator_builders": [Evaluator], "eval_every": 3}
    run(service, config(tmp_path, Data(held_out=False), **options))
    table = {row["step"]: row.get("probe/logprob") for row in rows(tmp_path)}
    assert [step for step, value in table.items() if value is not None] == [0, 3, 4]
    assert seen == [table[0], table[3], table[4]]
    assert len(set(seen)) == 3


def test_a_run_makes_its_model_better(service, tmp_path):
    data = Data(group_size=8, turns=1, num_batches=10, held_out=False)
    run(service, config(tmp_path, data, learning_rate=1e-2, save_every=0, num_substeps=2))
    rewards = [row["env/all/reward/total"] for row in rows(tmp_path)]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.15


def test_limits_reach_the_rollouts(service, tmp_path):
    options = {"limits": RolloutLimits(max_turns=1), "max_concurrent_groups": 1}
    run(service, config(tmp_path, Data(held_out=False, num_batches=1), **options))
    (row,) = rows(tmp_path)
    assert row["env/all/turns_per_episode"] == row["env/all/truncated"] == 1.0


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("loss_fn", "importance", "importance_sampling"),
        ("loss_fn_config", {"clip": 1.0}, "clip"),
        ("model_name", "no-such-model", "no-such-model"),
    ],
)
def test_what_the_engine_refuses_says_so_without_wrapping(service, tmp_path, option, value, said):
    with pytest.raises(RequestError, match=said):
        run(service, config(tmp_path, **{option: value}))
    run(service, config(tmp_path, max_steps=1, eval_every=0))  # the folder has nothing to lose
    assert rows(tmp_path)[0]["step"] == 0


class Interrupted:
    """A service whose models are interrupted in the middle of each training step."""

    def __init__(self, service, num_signals):
        self.service = service
        self.num_signals = num_signals

    def __getattr__(self, name):
        return getattr(self.service, name)

    async def create_lora_training_client_async(self, *args, **kwargs):
        model = await self.service.create_lora_training_client_async(*args, **kwargs)
        num_signals = self.num_signals

        class Model(TrainingClient):
            async def optim_step_async(self, *args, **kwargs):
                for _ in range(num_signals):
                    os.kill(os.getpid(), signal.SIGINT)
                    await anyio.sleep(0.01)
                return await super().optim_step_async(*args, **kwargs)

        return Model(model._backend, model._info)


def test_the_first_interrupt_finishes_and_saves_the_step_under_way(
    service, backend, tmp_path, unbroken, capsys
):
    seldom = config(tmp_path, save_every=0)
    summary = run(Interrupted(service, 1), seldom, backend)
    assert (summary.interrupted, summary.num_steps_done) == (True, 1)
    assert [record["batch"] for record in checkpoints(tmp_path)] == [1]
    assert "stopped after step 1; run the same command to go on" in capsys.readouterr().out
    run(service, seldom, backend)
    assert rows(tmp_path) == unbroken


def test_the_second_interrupt_stops_at_once(service, backend, tmp_path, unbroken):
    summary = run(Interrupted(service, 2), config(tmp_path), backend)
    assert (summary.interrupted, summary.num_steps_done) == (True, 0)
    assert all("optim/lr" not in row for row in rows(tmp_path))
    run(service, config(tmp_path), backend)
    assert rows(tmp_path) == unbroken


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from test_train import config, open_service
from tinker_rl.rl import train
with open_service({home!r}) as service:
    train(config({log_path!r}), service)
"""


def test_a_killed_process_costs_no_committed_step(tmp_path, unbroken):
    log_path, home = tmp_path / "run", tmp_path / "home"
    script = SCRIPT.format(
        folder=str(Path(__file__).parent), home=str(home), log_path=str(log_path)
    )
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=said, stderr=said)
        deadline = time.monotonic() + 120
        path = log_path / "checkpoints.jsonl"
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert path.exists(), (tmp_path / "said").read_text()
    assert len(checkpoints(log_path)) < NUM_STEPS
    with open_service(home) as service:
        run(service, config(log_path))
    assert rows(log_path) == unbroken
