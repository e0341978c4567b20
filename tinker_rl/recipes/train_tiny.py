"""Train the shipped `tiny` model from random weights, measure it, and write its folder.

python -m tinker_rl.recipes.train_tiny out=/tmp/tiny data_path=../shared/data/gsm8k
"""

import random
import shlex
from pathlib import Path

import chz
import torch
from rich.console import Console

from tinker_rl.supervised.arithmetic_scores import ArithmeticScores, arithmetic_scores
from tinker_rl.supervised.pretraining import PretrainingConfig, PretrainingResult, pretrain
from tinker_rl.supervised.tiny_examples import load_word_problems, sample_examples, tokenizer_texts
from tinker_rl.supervised.tiny_model import PAD_TOKEN, build_model, build_tokenizer, token_id


@chz.chz
class Config:
    """Options of the command line, each as `name=value`."""

    out: str = chz.field(doc="Folder to write the model to.")
    data_path: str | None = chz.field(default=None, doc="GSM8K's train.jsonl, or its folder.")
    seed: int = chz.field(default=0, doc="Seed of weights, examples and evaluation.")
    num_steps: int = chz.field(default=2400, doc="Optimiser steps.")
    rows_per_batch: int = chz.field(default=16, doc="Rows of 128 tokens in a step.")
    learning_rate: float = chz.field(default=3e-3, doc="Peak of the learning rate's schedule.")
    num_threads: int = chz.field(
        default=2,
        validator=chz.validators.gt(0),
        doc="Threads of torch; the last bits depend on it.",
    )
    num_test_problems: int = chz.field(
        default=1000, validator=chz.validators.gt(0), doc="Held-out sums to measure on."
    )


def main(config: Config) -> None:
    """Run the recipe."""
    console = Console()
    pretraining = PretrainingConfig(
        num_steps=config.num_steps,
        warmup_steps=min(50, config.num_steps),
        rows_per_batch=config.rows_per_batch,
        learning_rate=config.learning_rate,
    )
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)  # fails now rather than after minutes of training
    word_problems, source = load_word_problems(config.data_path)
    console.print(f"{len(word_problems)} word problems of GSM8K, from {source}")

    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer(tokenizer_texts(word_problems, random.Random(config.seed)))
    model = build_model(tokenizer)
    examples = sample_examples(tokenizer, word_problems, random.Random(config.seed + 1))
    result = pretrain(model, examples, pretraining, pad_token=token_id(tokenizer, PAD_TOKEN))

    # Before measuring: a tokenizer that has padded a batch would save its padding as a setting.
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)

    sampled, greedy = (
        arithmetic_scores(
            model, tokenizer, num_problems=config.num_test_problems, seed=config.seed, greedy=greedy
        )
        for greedy in (False, True)
    )
    card = model_card(config, model.num_parameters(), result, sampled, greedy)
    (out / "README.md").write_text(card, encoding="utf-8")
    console.print(card, markup=False, highlight=False, soft_wrap=True)


def model_card(
    config: Config,
    num_parameters: int,
    result: PretrainingResult,
    sampled: ArithmeticScores,
    greedy: ArithmeticScores,
) -> str:
    """The README of the model's folder: what it is, how good, and the command that made it."""
    options = chz.beta_to_blueprint_values(config)
    options["out"] = "tinker_rl/assets/tiny"
    if config.data_path is not None:
        options["data_path"] = "../shared/data/gsm8k"
    command = " ".join(
        f"{name}={shlex.quote(str(value))}" for name, value in options.items() if value is not None
    )
    return f"""\
---
license: apache-2.0
language: en
library_name: transformers
---
# tiny

A Qwen3 of {num_parameters:,} parameters in float32 (4 layers, width 128, vocabulary 1024, context
2048), trained from random weights on short sums. It exists so that the whole of `tinker_rl` runs
with no network and no GPU, and so that reinforcement learning has something to raise: it can do
the sums, and gives the answer in the asked format `\\boxed{{}}` in somewhat less than half of the
cases. It knows nothing else.

| on {sampled.num_problems} held-out sums | temperature 1 | greedy |
| --- | --- | --- |
| right, in `\\boxed{{}}` | {sampled.accuracy:.3f} | {greedy.accuracy:.3f} |
| in `\\boxed{{}}` | {sampled.format_share:.3f} | {greedy.format_share:.3f} |
| right, of those in `\\boxed{{}}` | {sampled.accuracy_given_format:.3f} \
| {greedy.accuracy_given_format:.3f} |

The user's turn is the sum and the format, for example `17+25=? Answer in \\boxed{{}}.`, in plain
ChatML. Held-out sums share no pair of operands with the training sums.

- **Data**: generated sums (`tinker_rl/envs/arithmetic_problems.py`) and, for about one example in
  ten, a piece of the GSM8K training set (MIT licence, OpenAI 2021).
- **Training**: {result.num_tokens:,} tokens, {len(result.losses)} steps, in
  {result.seconds:.0f} s on {config.num_threads} CPU threads \
({result.num_tokens / result.seconds:,.0f} tokens/s).
- **Licence**: Apache-2.0.
- **Made by**: `python -m tinker_rl.recipes.train_tiny {command}`
"""


if __name__ == "__main__":
    chz.nested_entrypoint(main)
