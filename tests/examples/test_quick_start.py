import importlib
import inspect
from pathlib import Path

import anyio
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
torch.set_num_threads(1)  # the model is small: more threads only wait for each other


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def test_the_quick_start_teaches_pig_latin(example, capsys):
    assert example("quick_start").main(steps=45) == "onut-day op-shay"
    printed = capsys.readouterr().out
    assert "- tiny" in printed
    assert "- Qwen/Qwen3-8B it is not in the local Hugging Face cache" in printed
    losses = [float(line.split()[-1]) for line in printed.splitlines() if "loss per token" in line]
    assert losses[0] > 3
    assert losses[-1] < 0.2
    assert printed.endswith("donut shop -> onut-day op-shay\n")


def test_the_asynchronous_quick_start_does_the_same(example, backend, capsys):
    main = example("quick_start_async").main
    assert anyio.run(main, "tiny", 35, backend=backend) == "onut-day op-shay"
    assert capsys.readouterr().out.endswith("donut shop -> onut-day op-shay\n")


def test_only_the_answer_is_trained_on(example):
    class Tokenizer:
        def encode(self, text, add_special_tokens):
            return [*([1] if add_special_tokens else []), *map(ord, text)]

    datum = example("quick_start").pig_latin_datum("ab", "cd", Tokenizer())
    tokens = datum.model_input.to_ints()
    targets = datum.loss_fn_inputs["target_tokens"].tolist()
    weights = datum.loss_fn_inputs["weights"].tolist()
    assert tokens[1:] == targets[:-1]
    trained = [chr(t) for t, weight in zip(targets, weights, strict=True) if weight]
    assert "".join(trained) == " cd\n\n"


def test_both_examples_are_short(example):
    for name in ("quick_start", "quick_start_async"):
        assert len(inspect.getsource(example(name).main).splitlines()) < 40
