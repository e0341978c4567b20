"""The recipe writes a folder that loads, and says on the command line what it does not know."""

import json
import random
import runpy
import sys

import chz
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinker_rl.recipes import train_tiny
from tinker_rl.recipes.train_tiny import Config, main

CHZ_REFUSALS = (SystemExit, chz.blueprint.ExtraneousBlueprintArg, chz.blueprint.InvalidBlueprintArg)


@pytest.fixture
def gsm8k(tmp_path):
    """A file in GSM8K's form, with words enough to fill the vocabulary."""
    rng = random.Random(0)
    syllables = ["ba", "ke", "lo", "mi", "nu", "ra", "shi", "to", "vel", "zan"]

    def sentence() -> str:
        return " ".join("".join(rng.choices(syllables, k=3)) for _ in range(12)) + "."

    path = tmp_path / "train.jsonl"
    rows = [{"question": sentence(), "answer": f"{sentence()}\n#### 1"} for _ in range(300)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_short_run_writes_a_folder_that_transformers_loads(tmp_path, gsm8k, capsys):
    num_threads = torch.get_num_threads()
    try:
        main(
            Config(
                out=str(tmp_path / "tiny"),
                data_path=str(gsm8k),
                num_steps=4,
                rows_per_batch=2,
                num_threads=1,
                num_test_problems=8,
            )
        )
    finally:
        torch.set_num_threads(num_threads)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    assert model.config.vocab_size == len(tokenizer) == 1024
    card = (tmp_path / "tiny" / "README.md").read_text(encoding="utf-8")
    assert f"{model.num_parameters():,} parameters" in card
    assert "on 8 held-out sums" in card
    assert "num_steps=4" in card
    assert str(tmp_path) not in card
    assert str(gsm8k) in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["learning_rat=1"], "learning_rate"),
        (["num_steps=many"], "num_steps"),
        (["num_steps=0"], "num_steps"),
        (["num_test_problems=0"], "num_test_problems"),
        (["num_threads=-1"], "num_threads"),
        (["data_path=/nowhere"], "/nowhere"),
        (["out=/dev/null/x"], "/dev/null/x"),
    ],
)
def test_a_bad_option_fails_at_once_and_is_named(tmp_path, capsys, arguments, named):
    # chz prints what it refuses and exits, or raises it under pytest; the recipe raises its own.
    with pytest.raises((*CHZ_REFUSALS, ValueError, OSError)) as caught:
        chz.nested_entrypoint(main, argv=[f"out={tmp_path}", *arguments])
    assert named in str(caught.value) + capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_module_runs_as_a_command_and_asks_for_its_folder(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_tiny"])
    with pytest.raises((*CHZ_REFUSALS, chz.blueprint.MissingBlueprintArg)) as caught:
        runpy.run_path(train_tiny.__file__, run_name="__main__")
    assert "out" in str(caught.value) + capsys.readouterr().err
