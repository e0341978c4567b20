"""The recipe with vLLM. Each start takes half a minute, so a run proves many things."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import torch

from tinker_rl.rl.journal import JOURNAL_FILE, Journal, encode

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make vllm)"),
]

COMMAND = (sys.executable, "-m", "tinker_rl.recipes.rl_basic")

PROGRAM = """
import sys
import anyio, chz
from rich.console import Console
from tinker_rl import ModelInput, SamplingParams
from tinker_rl.recipes.rl_basic import Config, train_config
from tinker_rl.recipes.sampler import open_service
from tinker_rl.rl import main

config = Config(batch_size=4, group_size=4, max_steps=2, n_test=0, log_path=sys.argv[1])
options = train_config(config, "tiny", "arithmetic", Console(quiet=True))
service = open_service("vllm")
anyio.run(main, chz.replace(options, sampler_name="vllm"), service)
sampling = service.create_sampling_client(base_model="tiny")
params = SamplingParams(max_tokens=400, stop=[])
futures = [sampling.sample(ModelInput.from_ints([1, 2, 3]), 4, params) for _ in range(20)]
futures[0].result()
"""
"""Trains on-policy, and ends while the engine has work."""


@pytest.fixture
def environment(tmp_path, traces):
    home = {"TINKER_RL_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **home, **traces.environment}


def run(*command, environment):
    return subprocess.run(command, capture_output=True, text=True, timeout=1000, env=environment)


def run_until_killed(command, log_path, num_steps, traces, environment):
    """Kill a run when so many steps have been written down."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    end = time.monotonic() + 1000
    while len(read_rows(log_path)) < num_steps and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert traces.has_processes()
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"


def read_rows(log_path):
    path = log_path / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def groups_in(log_path):
    """What the journal holds of every group."""
    with Journal.read(log_path / JOURNAL_FILE) as journal:
        return {number: encode(journal.read_group(number)) for number in journal.groups}


def test_it_trains_on_policy_and_a_program_that_just_ends_leaves_nothing(
    tmp_path, traces, environment
):
    done = run(sys.executable, "-c", PROGRAM, tmp_path / "run", environment=environment)
    assert done.returncode == 0, done.stderr
    rows = read_rows(tmp_path / "run")
    assert [row["step"] for row in rows] == [0, 1]
    for row in rows:
        assert 0 < row["sync/max_abs_logprob_diff"] < 1e-3
        assert abs(row["optim/kl_sample_train_v1"]) < 1e-4
    traces.check()
    # On a CPU nothing was compiled: that would take longer than all the rest.
    assert torch.cuda.is_available() or not list(traces.folder.glob("torchinductor_*/**/*.so"))


def test_an_asynchronous_run_that_is_killed_goes_on_where_it_was_and_nothing_is_left(
    tmp_path, traces, environment
):
    log_path = tmp_path / "run"
    command = (
        *(*COMMAND, "model_name=tiny", "sampler=vllm", "n_test=0", "max_steps=6", "batch_size=16"),
        *("group_size=8", "learning_rate=1e-4", "max_steps_off_policy=2", "refresh=publish"),
        f"log_path={log_path}",
    )
    run_until_killed(command, log_path, 2, traces, environment)
    traces.check()
    before = groups_in(log_path)
    done = run(*command, environment=environment)
    assert done.returncode == 0, done.stderr
    traces.check()
    said = done.stdout.splitlines()
    assert said[1].startswith("sampler vllm: as asked; its first start takes a minute")
    assert "starting the sampler ..." in said
    assert "going on after step" in done.stdout
    assert json.loads((log_path / "summary.json").read_text())["sampler"] == "vllm"
    assert json.loads((log_path / "config.json").read_text())["sampler_name"] == "vllm"
    after = groups_in(log_path)
    assert len(before) >= 32
    assert {number: after[number] for number in before} == before
    with Journal.read(log_path / JOURNAL_FILE) as journal:
        assert [group for c in journal.commits for group in c.groups] == list(range(96))
        assert len(journal.starts) == 2
    rows = read_rows(log_path)
    assert [row["step"] for row in rows] == list(range(6))
    for row in rows:
        assert 0 <= row["async/staleness_min"] <= row["async/staleness_max"] <= 2
        assert row["optim/kl_sample_train_v2"] < 1e-3
        assert row["useful_token_fraction"] == 1
    assert rows[-1]["async/staleness_max"] > 0
