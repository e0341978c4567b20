import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig

from tinker_rl.cli.doctor import default_model
from tinker_rl.cli.probe import probe_torch
from tinker_rl.recipes import rl_basic

ROOT = Path(__file__).parents[2]


def tinker_rl(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "tinker_rl", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_a_command_it_says_what_there_is():
    done = tinker_rl()
    assert done.returncode == 0
    assert "doctor" in done.stdout


def test_an_unknown_command_is_an_error_with_the_list():
    done = tinker_rl("nurse")
    assert done.returncode == 2
    assert "expected a command; got 'nurse'" in done.stderr
    assert "doctor" in done.stderr


def test_help_lists_the_options():
    done = tinker_rl("doctor", "--help")
    assert done.returncode == 0
    assert "gpu_memory_gb" in done.stdout


@pytest.mark.parametrize("argument", ["ranks=2", "rank=0", "gpu_memory_gb=-1", "memory_share=2"])
def test_a_wrong_argument_is_an_error_without_a_traceback(argument):
    done = tinker_rl("doctor", "model_name=tiny", "sampler=vllm", argument)
    assert done.returncode == 1
    assert argument.partition("=")[0].rstrip("s") in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_tiny_fits_here():
    done = tinker_rl("doctor", "model_name=tiny")
    assert "memory plan: tiny in" in done.stdout
    assert "fits" in done.stdout
    if "no problems" in done.stdout:  # an environment of a developer may have some
        assert done.returncode == 0, done.stdout


def test_a_gpu_that_is_not_here_can_be_planned_for():
    done = tinker_rl("doctor", "sampler=vllm", "gpu_memory_gb=80", "json=true", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["model_name"] == "meta-llama/Llama-3.1-8B"
    assert not report["ok"]
    plan = report["plan"]
    assert plan["learner"]["weights"] == 2 * 8_030_261_248
    arguments = [f"{c['setting']}={json.dumps(c['value'])}" for c in plan["changes"]]
    changed = tinker_rl("doctor", "sampler=vllm", "gpu_memory_gb=80", "json=true", *arguments)
    assert json.loads(changed.stdout)["plan"]["fits"]


def test_a_plan_that_does_not_fit_says_what_to_change():
    done = tinker_rl("doctor", "model_name=Qwen/Qwen3-8B", "sampler=embedded", "gpu_memory_gb=48")
    assert done.returncode == 1
    assert "does not fit: the learner takes" in done.stdout
    assert "gradient_checkpointing=true" in done.stdout


def test_a_model_of_the_hub_that_is_not_here_is_a_problem_and_nothing_is_fetched(tmp_path):
    done = tinker_rl(
        "doctor", "model_name=Qwen/Qwen3-0.6B", HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path)
    )
    assert done.returncode == 1
    assert "Qwen/Qwen3-0.6B would be downloaded (1.2 GB)" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_nobody_knows_is_a_problem(tmp_path):
    done = tinker_rl("doctor", "model_name=some/model", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert "hf download some/model config.json" in done.stdout
    assert "no memory plan" in done.stdout


def test_a_folder_is_planned_for(tmp_path):
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=512,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    done = tinker_rl("doctor", f"model_name={tmp_path}", "sampler=embedded", "json=true")
    report = json.loads(done.stdout)
    assert report["found"]["source"]["kind"] == "folder"
    assert report["plan"]["fits"]
    assert report["plan"]["context"] == 512


@pytest.mark.parametrize("memory_gb", [0.0, 39.9, 40.0, 80.0])
def test_the_default_model_is_that_of_the_first_recipe(monkeypatch, memory_gb):
    monkeypatch.setattr(rl_basic, "_gpu", lambda: ("a GPU" if memory_gb else "", memory_gb))
    assert default_model(memory_gb) == rl_basic.choose(rl_basic.Config())[0]


def test_torch_is_asked_in_a_process_of_its_own():
    probe = probe_torch()
    assert probe.error is None
    assert probe.version
