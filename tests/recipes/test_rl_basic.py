import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import psutil
import pytest
from rich.console import Console

from tinker_rl import lineup
from tinker_rl.errors import ConfigError, UnknownNameError
from tinker_rl.recipes import rl_basic
from tinker_rl.recipes.rl_basic import Config, choose, train_config
from tinker_rl.recipes.sampler import choose_sampler
from tinker_rl.rl.journal import JOURNAL_FILE, Journal, encode

QUICK = ("model_name=tiny", "batch_size=4", "group_size=4", "max_steps=2", "save_every=1")


COMMAND = (sys.executable, "-m", "tinker_rl.recipes.rl_basic")


def run(*arguments, **environment):
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def run_until_killed(log_path, num_steps, *arguments, **environment):
    """Kill a run when so many steps have been written down."""
    process = subprocess.Popen(
        [*COMMAND, *arguments, f"log_path={log_path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    end = time.monotonic() + 240
    while len(read_rows(log_path)) < num_steps and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"


def read_rows(log_path):
    path = log_path / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def test_it_trains_evaluates_and_tells_what_to_do_next(tmp_path):
    log_path = tmp_path / "run"
    done = run(*QUICK, "dataset=arithmetic", "n_test=200", f"log_path={log_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:4] == [
        "model tiny on arithmetic: as asked",
        "sampler embedded: it suits tiny",
        "loading tiny ...",
        "starting the sampler ...",
    ]
    assert "create_sampling_client" in done.stdout
    assert "a bigger model" in done.stdout
    summary = json.loads((log_path / "summary.json").read_text())
    assert summary["steps"] == 2
    assert 0.2 < summary["accuracy_before"] < 0.7
    assert summary["accuracy_after"] is not None
    rows = read_rows(log_path)
    trained = [row for row in rows if "optim/lr" in row]
    assert [row["step"] for row in trained] == [0, 1]
    assert sorted(row["step"] for row in rows if "test/env/all/correct" in row) == [0, 2]
    # The learner computes the logprobs that the sampler reported: the weights are in step.
    assert all(abs(row["optim/kl_sample_train_v1"]) < 1e-4 for row in trained)


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make vllm)")
def test_it_samples_with_vllm_and_shows_what_it_waits_for(tmp_path):
    log_path, home = tmp_path / "run", str(tmp_path / "home")
    done = run(
        *(*QUICK, "dataset=arithmetic", "sampler=vllm", "n_test=0", f"log_path={log_path}"),
        TINKER_RL_HOME=home,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[1].startswith("sampler vllm: as asked; its first start takes a minute")
    assert said[3] == "starting the sampler ..."
    rows = read_rows(log_path)
    assert [row["step"] for row in rows] == [0, 1]
    for row in rows:
        assert 0 < row["sync/max_abs_logprob_diff"] < 1e-3
        assert abs(row["optim/kl_sample_train_v1"]) < 1e-4
    assert json.loads((log_path / "summary.json").read_text())["sampler"] == "vllm"
    assert json.loads((log_path / "config.json").read_text())["sampler_name"] == "vllm"
    assert not [process for process in psutil.process_iter() if _home(process) == home]


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make vllm)")
def test_an_asynchronous_run_with_vllm_that_is_killed_goes_on_where_it_was(tmp_path):
    """One kill, as each start of vLLM takes half a minute."""
    log_path, home = tmp_path / "run", str(tmp_path / "home")
    arguments = (
        *("model_name=tiny", "sampler=vllm", "n_test=0", "max_steps=6", "batch_size=16"),
        *("group_size=8", "learning_rate=1e-4", "max_steps_off_policy=2", "refresh=publish"),
    )
    run_until_killed(log_path, 2, *arguments, TINKER_RL_HOME=home)
    before = groups_in(log_path)
    done = run(*arguments, f"log_path={log_path}", TINKER_RL_HOME=home)
    assert done.returncode == 0, done.stderr
    assert "going on after step" in done.stdout
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
    assert not [process for process in psutil.process_iter() if _home(process) == home]


def groups_in(log_path):
    """What the journal holds of every group."""
    with Journal.read(log_path / JOURNAL_FILE) as journal:
        return {number: encode(journal.read_group(number)) for number in journal.groups}


def _home(process):
    try:
        return process.environ().get("TINKER_RL_HOME")
    except psutil.Error:
        return None


def test_real_gsm8k_is_asked_and_graded(tmp_path, shared_data):
    log_path = tmp_path / "run"
    done = run(
        *(*QUICK, "dataset=gsm8k", f"data_path={shared_data / 'gsm8k'}"),
        *("max_tokens=8", "n_test=0", "max_steps=1", f"log_path={log_path}"),
    )
    assert done.returncode == 0, done.stderr
    assert "7473 rows" in done.stdout
    transcript = (log_path / "transcripts" / "step_000000.txt").read_text()
    assert "\\boxed{}" in transcript


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model_name=tinny"], "tinny"),
        (["dataset=gsm9k"], "Did you mean 'gsm8k'?"),
        (["dataset=gsm8k", "data_path=/nowhere"], "/nowhere"),
        (["loss_fn=ppi", "n_test=0", *QUICK], "Did you mean 'ppo'?"),
        (["learning_rate=-1", *QUICK], "learning_rate"),
        (["dataset=arithmetic", "data_path=/nowhere"], "data_path"),
        (["max_tokens=0"], "max_tokens"),
        (["sampler=vlm"], "sampler"),
        (["on_weight_sync_error=ignore"], "on_weight_sync_error"),
    ],
)
def test_bad_options_end_with_an_error_and_no_traceback(tmp_path, arguments, expected):
    done = run("model_name=tiny", *arguments, f"log_path={tmp_path / 'run'}")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_malformed_data_file_is_named_with_its_line(tmp_path):
    data = tmp_path / "train.jsonl"
    data.write_text('{"question": "1+1?", "answer": "#### 2"}\n{"question": "2+2?"}\n')
    done = run("dataset=gsm8k", f"data_path={data}", f"log_path={tmp_path / 'run'}")
    assert done.returncode == 1
    assert str(data) in done.stderr
    assert "line 2" in done.stderr


@pytest.mark.parametrize(
    ("gpu", "memory_gb", "model", "dataset", "why"),
    [
        ("", 0.0, "tiny", "arithmetic", "no GPU"),
        ("Small", 8.0, "tiny", "arithmetic", "only 8 GB"),
        ("Large", 80.0, "meta-llama/Llama-3.1-8B", "gsm8k", "large GPU"),
    ],
)
def test_the_defaults_fit_the_machine(monkeypatch, gpu, memory_gb, model, dataset, why):
    monkeypatch.setattr(rl_basic, "_gpu", lambda: (gpu, memory_gb))  # we own no GPU to try it on
    chosen = choose(Config())
    assert chosen[:2] == (model, dataset)
    assert why in chosen[2]


def test_a_model_is_checked_before_its_data_is_loaded():
    with pytest.raises(UnknownNameError, match="no-such-model"):
        train_config(Config(), "no-such-model", "gsm8k", Console(quiet=True))


def test_the_sampler_fits_model_and_machine(monkeypatch, llama):
    assert choose_sampler("auto", "tiny") == ("embedded", "it suits tiny")
    assert choose_sampler("embedded", "tiny") == ("embedded", "as asked")
    monkeypatch.setattr(lineup, "has_vllm", lambda: False)
    assert choose_sampler("auto", llama) == ("embedded", "vLLM is not installed")
    with pytest.raises(ConfigError, match="expected an installed vLLM"):
        choose_sampler("vllm", "tiny")
    monkeypatch.setattr(lineup, "has_vllm", lambda: True)
    for asked in ("auto", "vllm"):
        sampler, why = choose_sampler(asked, llama)
        assert sampler == "vllm"
        assert "start takes a minute" in why
