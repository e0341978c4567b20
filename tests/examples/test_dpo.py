import importlib
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
torch.set_num_threads(1)  # the model is small: more threads only wait for each other


@pytest.mark.slow
def test_dpo_teaches_to_prefer_the_right_sum(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    metrics = importlib.import_module("dpo").main(steps=15, pairs=16)
    assert metrics["accuracy:mean"] > 0.65  # a coin would have 0.5, over 100 pairs
    assert metrics["margin:mean"] > 0.02
    printed = capsys.readouterr().out
    assert "step  0  loss 0.693" in printed
    assert "held-out pairs: accuracy" in printed
