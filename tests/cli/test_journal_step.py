"""`journal RUN --step N` on real asynchronous runs of `tiny`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import chz
import msgspec
import pytest

from tinker_rl.cli.journal import run
from tinker_rl.clients import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSamplerConfig
from tinker_rl.envs import Env, EnvGroupBuilder, RLDataset, RLDatasetBuilder, StepResult
from tinker_rl.rl import AsyncConfig, Config, main
from tinker_rl.rl.journal import CommitRecord, GroupRecord, Journal, decode
from tinker_rl.rl.journal.frames import scan
from tinker_rl.rl.log_dir import lock_log_dir
from tinker_rl.types import ModelInput

ROOT = Path(__file__).parents[2]
GROUPS = 2
"""Groups of a batch."""
MEMBERS = 4
"""Episodes of a group."""
NUM_STEPS = 4
"""The run saves after 2 of them, and at the end."""


class EvenTokens(Env):
    """Two turns; each earns the share of even tokens."""

    def __init__(self, number):
        self.history = [5 + number % 7, 6, 7]
        self.turns = 2

    async def initial_observation(self):
        return ModelInput.from_ints(self.history), []

    async def step(self, action):
        self.turns -= 1
        self.history += [*action, 9]
        reward = sum(token % 2 == 0 for token in action) / len(action)
        return StepResult(reward, self.turns == 0, ModelInput.from_ints(self.history), [])


class Group(EnvGroupBuilder):
    def __init__(self, number):
        self.number = number

    async def make_envs(self):
        return [EvenTokens(self.number) for _ in range(MEMBERS)]


class Groups(RLDataset):
    def get_batch(self, index):
        return [Group(number) for number in range(index * GROUPS, (index + 1) * GROUPS)]

    def __len__(self):
        return NUM_STEPS


@chz.chz
class Data(RLDatasetBuilder):
    async def __call__(self):
        return Groups(), None


def config(log_path, **options):
    return Config(
        **{
            "learning_rate": 1e-3,
            "dataset_builder": Data(),
            "model_name": "tiny",
            "max_tokens": 4,
            "log_path": str(log_path),
            "lora_rank": 4,
            "eval_every": 0,
            "save_every": 2,
            "num_substeps": 2,
            "async_config": AsyncConfig(
                max_steps_off_policy=1, groups_per_batch=GROUPS, lag="fixed"
            ),
            **options,
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def service(home):
    sampler = EmbeddedSamplerConfig(deterministic=True)
    options = EngineOptions(home=str(home), threads=1, sampler=sampler)
    with ServiceClient(engine_options=options) as client:
        yield client


@pytest.fixture(scope="module")
def log_path(service, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    anyio.run(main, config(path), service, backend="trio")
    return path


@pytest.fixture
def step(monkeypatch, capsys, home, tmp_path):
    """Runs the command inside this process; gives its exit status, and what it printed."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def step(run_path, number, form="--step={}"):
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("TINKER_RL_HOME", str(home))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        monkeypatch.setattr(sys, "argv", ["journal", str(run_path), *form.format(number).split()])
        status = 0
        try:
            run()
        except SystemExit as left:
            status = left.code
        assert not list(temporary.iterdir())
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return step


def rows(out):
    """Of the table: name -> (recorded, recomputed, difference, verdict)."""
    found = {}
    for line in out.splitlines():
        cells = line.strip().split(maxsplit=4)
        if len(cells) == 5 and "/" in cells[0]:
            found[cells[0]] = tuple(cells[1:])
    return found


def files(*folders):
    return {
        path: path.stat().st_mtime_ns
        for folder in folders
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


def copy_of(log_path, tmp_path, change=lambda record: record):
    """The run in another folder, each record of its journal as `change` gives it."""
    copy = tmp_path / "copy"
    shutil.copytree(log_path, copy)
    (copy / "journal.bin").unlink()
    fd = os.open(log_path / "journal.bin", os.O_RDONLY)
    with Journal.open(copy / "journal.bin") as journal:
        for frame in scan(fd, log_path / "journal.bin"):
            journal.append(change(decode(frame.payload)))
    os.close(fd)
    return copy


def with_other_rewards(*groups):
    """Changes what the first episode of some groups earned."""

    def change(record):
        if not isinstance(record, GroupRecord) or record.group not in groups:
            return record
        group = record.outcome.group
        rewards = [group.final_rewards_G[0] + 3.0, *group.final_rewards_G[1:]]
        altered = msgspec.structs.replace(group, final_rewards_G=rewards)
        outcome = msgspec.structs.replace(record.outcome, group=altered)
        return msgspec.structs.replace(record, outcome=outcome)

    return change


@pytest.mark.parametrize(
    ("form", "number", "beginning", "replayed"),
    [
        ("--step {}", 0, "the run's beginning", "0 steps"),
        ("--step={}", 1, "the run's beginning", "1 step "),
        ("step={}", 2, "checkpoint 000002", "0 steps"),
        ("step={}", 3, "checkpoint 000002", "1 step "),
    ],
)
def test_every_step_agrees_bit_for_bit_from_before_and_after_a_checkpoint(
    log_path, home, step, form, number, beginning, replayed
):
    before = files(log_path, home)
    status, out, err = step(log_path, number, form)
    assert status == 0, out + err
    assert f"trained again from {beginning} and {replayed}" in out
    assert f"step {number} agrees bit for bit" in out
    assert files(log_path, home) == before
    compared = rows(out)
    assert {verdict for *_, verdict in compared.values()} == {"agrees bit for bit"}
    assert {
        "env/all/reward/total",
        "sampling/tokens",
        "optim/loss",
        "optim/grad_norm",
        "optim/kl_sample_train_v1",
        "optim/kl_sample_train_v2",
        "optim/entropy",
        "optim/ratio_p50",
        "async/staleness_max",
    } <= compared.keys()
    with Journal.read(log_path / "journal.bin") as journal:
        commit = journal.commits[number]
        assert len({commit.weight_hash for commit in journal.commits}) == NUM_STEPS
    assert commit.metrics["optim/grad_norm"] > 0
    assert compared["async/staleness_max"][0] == str(min(number, 1))
    assert float(compared["optim/loss"][1]) == pytest.approx(commit.metrics["optim/loss"])
    assert out.count(commit.weight_hash[:12]) == 2


def test_a_reward_that_was_altered_shows_in_its_step(log_path, tmp_path, step):
    copy = copy_of(log_path, tmp_path, with_other_rewards(2 * GROUPS))
    status, out, _ = step(copy, 2)
    assert status == 1
    compared = rows(out)
    for name in ("env/all/reward/total", "optim/loss", "optim/grad_norm"):
        assert compared[name][-1] == "differs"
    assert compared["env/all/reward/total"][2] == f"{3.0 / (GROUPS * MEMBERS):.2e}"
    assert compared["sampling/tokens"][-1] == "agrees bit for bit"
    assert "step 2 differs in env/all/reward/total" in out
    assert "weight hash" in out.splitlines()[-1]


def test_a_reward_that_was_altered_shows_in_the_steps_after_it(log_path, tmp_path, step):
    copy = copy_of(log_path, tmp_path, with_other_rewards(0))
    status, out, _ = step(copy, 1)
    assert status == 1
    assert rows(out)["env/all/reward/total"][-1] == "agrees bit for bit"
    assert "weight hash; the first step that does is 0" in out
    assert step(copy, 2)[0] == 0, "a checkpoint is after it"


def test_a_learning_rate_that_was_altered_shows_in_the_weights(log_path, tmp_path, step):
    def change(record):
        if not isinstance(record, CommitRecord) or record.step != 2:
            return record
        metrics = {k: v for k, v in record.metrics.items() if k == "env/all/reward/total"}
        training = msgspec.structs.replace(record.training, learning_rate=2e-3)
        return msgspec.structs.replace(record, metrics=metrics, training=training)

    status, out, _ = step(copy_of(log_path, tmp_path, change), 2)
    assert status == 1
    assert "differs in weight hash, and in no number" in out
    assert rows(out)["optim/loss"][0] == "none"


def test_a_step_that_wrote_nothing_down_proves_nothing(log_path, tmp_path, step):
    def change(record):
        if not isinstance(record, CommitRecord):
            return record
        return msgspec.structs.replace(record, metrics={}, weight_hash=None)

    status, out, _ = step(copy_of(log_path, tmp_path, change), 2)
    assert status == 1
    assert "step 2 wrote down nothing to compare with" in out


def test_it_may_run_while_the_run_is_going(log_path, tmp_path, step):
    copy = copy_of(log_path, tmp_path)
    with lock_log_dir(copy), (copy / "journal.bin").open("ab") as file:
        file.write(b"half a rec")
        file.flush()
        assert step(copy / "journal.bin", 3)[0] == 0


def test_a_journal_that_was_put_aside_is_named_and_its_steps_are_trained_again_too(
    log_path, tmp_path, step
):
    copy = copy_of(log_path, tmp_path)
    aside = copy / "journal.1.bin"
    shutil.copyfile(copy / "journal.bin", aside)
    status, out, err = step(copy, 2)
    assert status == 0
    assert f"  python -m tinker_rl journal {aside}" in err.splitlines()
    assert [line for line in out.splitlines() if line != line.rstrip()] == []
    status, out, err = step(aside, 2)
    assert status == 0
    assert "step 2 agrees bit for bit" in out
    assert "python -m" not in err


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(log_path, home, tmp_path, step):
    copy = copy_of(log_path, tmp_path)
    lines = (copy / "checkpoints.jsonl").read_text().splitlines()
    missing = json.loads(lines[0]) | {"name": "000003", "batch": 3}
    missing["state_path"] = missing["state_path"].replace("000002", "000003")
    (copy / "checkpoints.jsonl").write_text("\n".join([lines[0], json.dumps(missing)]) + "\n")
    status, out, err = step(copy, 3)
    assert status == 0
    assert "checkpoint 000003 is passed over" in err
    assert "from checkpoint 000002 and 1 step" in out


def test_checkpoints_that_are_gone_are_an_error_that_names_the_store(
    log_path, tmp_path, step, monkeypatch
):
    copy = copy_of(log_path, tmp_path)
    path = copy / "checkpoints.jsonl"
    path.write_text(path.read_text().replace("/000002", "/000009"))
    status, _, err = step(copy, 3)
    assert status == 1
    assert "one of the run's 1 checkpoints at or before step 3" in err
    assert "TINKER_RL_HOME" in err
    assert step(copy, 1)[0] == 0, "no checkpoint is needed for it"


def untold(record):
    if not isinstance(record, CommitRecord) or record.step != 2:
        return record
    return msgspec.structs.replace(record, training=None)


@pytest.mark.parametrize("number", [2, 3])
def test_a_commit_that_does_not_say_how_it_trained_is_an_error(log_path, tmp_path, step, number):
    status, _, err = step(copy_of(log_path, tmp_path, untold), number)
    assert status == 1
    assert "expected step 2 to say how it trained" in err


@pytest.mark.parametrize("number", [-1, 4, 1000])
def test_a_step_that_is_not_there_is_an_error_that_lists_those_that_are(log_path, step, number):
    status, out, err = step(log_path, number)
    assert (status, out) == (1, "")
    assert f"expected a committed step (0-3); got {number}" in err


def test_a_damaged_group_is_an_error_with_its_offset(log_path, tmp_path, step):
    copy = copy_of(log_path, tmp_path)
    with Journal.read(copy / "journal.bin") as journal:
        offset = journal.groups[3 * GROUPS]
    content = bytearray((copy / "journal.bin").read_bytes())
    content[offset + 40] ^= 1
    (copy / "journal.bin").write_bytes(content)
    status, _, err = step(copy, 3)
    assert status == 1
    assert str(offset) in err


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_without_options_only_steps_after_a_checkpoint_are_trained_again(
    log_path, tmp_path, step, text
):
    copy = copy_of(log_path, tmp_path)
    (copy / "config.json").unlink()
    if text is not None:
        (copy / "config.json").write_text(text)
    assert step(copy, 3)[0] == 0
    status, _, err = step(copy, 0)
    assert status == 1
    assert "expected the run's options, which say how its weights began" in err


def test_a_run_that_began_with_a_checkpoint_begins_with_it_again(service, log_path, tmp_path, step):
    state = json.loads((log_path / "checkpoints.jsonl").read_text().splitlines()[0])["state_path"]
    options = {"load_checkpoint_path": state, "save_every": 0, "max_steps": 2}
    anyio.run(main, config(tmp_path / "next", **options), service, backend="trio")
    status, out, _ = step(tmp_path / "next", 1)
    assert status == 0
    assert "step 1 agrees bit for bit" in out


def test_ctrl_c_stops_it_and_leaves_nothing_behind(log_path, home, tmp_path):
    before = files(log_path, home)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tinker_rl", "journal", str(log_path), "step=3"],
        cwd=ROOT,
        env={**os.environ, "TINKER_RL_HOME": str(home), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(temporary.glob("tinker_rl-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert err.endswith("stopped; nothing was changed\n")
    assert "Traceback" not in err
    assert not list(temporary.glob("tinker_rl-*"))
    assert files(log_path, home) == before
