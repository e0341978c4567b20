import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, LlamaConfig

from tinker_rl import __main__ as package
from tinker_rl.cli import doctor
from tinker_rl.cli.doctor import default_model
from tinker_rl.cli.probe import probe_torch
from tinker_rl.recipes import rl_basic

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def probe():
    """What torch says of itself, asked once: it takes seconds, and stays the same."""
    return probe_torch()


@pytest.fixture
def command(monkeypatch, run_inside, probe):
    """Runs the package's command inside this process; gives its status, and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "probe_torch", lambda: probe)
    return partial(run_inside, package.main)


def test_without_a_command_it_says_what_there_is(command):
    status, out, _ = command()
    assert status == 0
    for name in ("doctor", "journal", "view"):
        assert name in out


def test_an_unknown_command_is_an_error_with_the_list(command):
    status, _, err = command("nurse")
    assert status == 2
    assert "expected a command; got 'nurse'" in err
    assert "doctor" in err


def test_help_lists_the_options(command):
    status, out, _ = command("doctor", "--help")
    assert status == 0
    assert "gpu_memory_gb" in out


@pytest.mark.parametrize("argument", ["ranks=2", "rank=0", "gpu_memory_gb=-1", "memory_share=2"])
def test_a_wrong_argument_is_an_error_before_torch_is_asked(command, monkeypatch, argument):
    asked = []
    monkeypatch.setattr(doctor, "probe_torch", lambda: asked.append(True))
    status, out, err = command("doctor", "model_name=tiny", "sampler=vllm", argument)
    assert status == 1
    assert argument.partition("=")[0].rstrip("s") in err
    assert (out, asked) == ("", [])
    assert "Traceback" not in err


def test_tiny_fits_here():
    """The command as a user calls it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tinker_rl", "doctor", "model_name=tiny"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "memory plan: tiny in" in done.stdout
    assert "fits" in done.stdout
    if "no problems" in done.stdout:  # an environment of a developer may have some
        assert done.returncode == 0, done.stdout


def test_a_gpu_that_is_not_here_can_be_planned_for(command):
    status, out, _ = command("doctor", "sampler=vllm", "gpu_memory_gb=80", "json=true")
    assert status == 1
    report = json.loads(out)
    assert report["model_name"] == "meta-llama/Llama-3.1-8B"
    assert not report["ok"]
    plan = report["plan"]
    assert plan["learner"]["weights"] == 2 * 8_030_261_248
    arguments = [f"{c['setting']}={json.dumps(c['value'])}" for c in plan["changes"]]
    _, out, _ = command("doctor", "sampler=vllm", "gpu_memory_gb=80", "json=true", *arguments)
    assert json.loads(out)["plan"]["fits"]


def test_a_plan_that_does_not_fit_says_what_to_change(command):
    status, out, _ = command(
        "doctor", "model_name=Qwen/Qwen3-8B", "sampler=embedded", "gpu_memory_gb=48"
    )
    assert status == 1
    assert "does not fit: the learner takes" in out
    assert "gradient_checkpointing=true" in out


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, empty."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_model_of_the_hub_that_is_not_here_is_a_problem_and_nothing_is_fetched(command, cache):
    status, out, _ = command("doctor", "model_name=Qwen/Qwen3-0.6B")
    assert status == 1
    assert "Qwen/Qwen3-0.6B would be downloaded (1.2 GB)" in out
    assert list(cache.iterdir()) == []


def test_a_model_that_nobody_knows_is_a_problem(command, cache):
    status, out, _ = command("doctor", "model_name=some/model")
    assert status == 1
    assert "hf download some/model config.json" in out
    assert "no memory plan" in out


def test_a_folder_is_planned_for(command, tmp_path):
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=512,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    _, out, _ = command("doctor", f"model_name={tmp_path}", "sampler=embedded", "json=true")
    report = json.loads(out)
    assert report["found"]["source"]["kind"] == "folder"
    assert report["plan"]["fits"]
    assert report["plan"]["context"] == 512


@pytest.mark.parametrize("memory_gb", [0.0, 39.9, 40.0, 80.0])
def test_the_default_model_is_that_of_the_first_recipe(monkeypatch, memory_gb):
    monkeypatch.setattr(rl_basic, "_gpu", lambda: ("a GPU" if memory_gb else "", memory_gb))
    assert default_model(memory_gb) == rl_basic.choose(rl_basic.Config())[0]


def test_torch_is_asked_in_a_process_of_its_own(probe):
    assert probe.error is None
    assert probe.version
