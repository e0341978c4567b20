import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from rich.console import Console

from tinker_rl import lineup
from tinker_rl.errors import ConfigError, UnknownNameError
from tinker_rl.recipes import rl_basic
from tinker_rl.recipes.command import run_command
from tinker_rl.recipes.rl_basic import Config, choose, train_config
from tinker_rl.recipes.sampler import choose_sampler

torch.set_num_threads(1)  # the model is small: more threads only wait for each other

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


@pytest.fixture
def run_here(run_inside):
    """Runs the recipe inside this process; gives its exit status, and what it printed."""
    return partial(run_inside, lambda: run_command(rl_basic.main, Config))


def read_rows(log_path):
    path = log_path / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def test_it_trains_evaluates_and_tells_what_to_do_next(tmp_path):
    """The command as a user calls it, in a process of its own."""
    log_path = tmp_path / "run"
    done = run(*QUICK, "dataset=arithmetic", "n_test=100", f"log_path={log_path}")
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


def test_real_gsm8k_is_asked_and_graded(run_here, tmp_path, shared_data):
    log_path = tmp_path / "run"
    status, out, err = run_here(
        *(*QUICK, "dataset=gsm8k", f"data_path={shared_data / 'gsm8k'}"),
        *("max_tokens=8", "n_test=0", "max_steps=1", f"log_path={log_path}"),
    )
    assert status == 0, err
    assert "7473 rows" in out
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
def test_bad_options_end_with_an_error_before_a_model_is_loaded(
    run_here, tmp_path, arguments, expected
):
    status, out, err = run_here("model_name=tiny", *arguments, f"log_path={tmp_path / 'run'}")
    assert status == 1
    assert expected in err
    assert "Traceback" not in err
    assert "loading" not in out


def test_a_loss_that_the_engine_refuses_ends_with_its_error(run_here, tmp_path):
    log_path = tmp_path / "run"
    status, _, err = run_here(
        *QUICK, "loss_fn=stable_reinforce", "n_test=0", f"log_path={log_path}"
    )
    assert status == 1
    assert "its formula is not published" in err
    assert "Traceback" not in err
    assert read_rows(log_path) == []


def test_a_malformed_data_file_is_named_with_its_line(run_here, tmp_path):
    data = tmp_path / "train.jsonl"
    data.write_text('{"question": "1+1?", "answer": "#### 2"}\n{"question": "2+2?"}\n')
    status, _, err = run_here("dataset=gsm8k", f"data_path={data}", f"log_path={tmp_path / 'run'}")
    assert status == 1
    assert str(data) in err
    assert "line 2" in err


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
