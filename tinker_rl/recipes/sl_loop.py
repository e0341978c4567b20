r"""Supervised fine-tuning in one file, over the client API alone: read it from top to bottom.

    python -m tinker_rl.recipes.sl_loop
    python -m tinker_rl.recipes.sl_loop data_path=../shared/data/instruct/train.jsonl

Without a file it teaches sums, every answer in `\boxed{}`. A file has one JSON object a line, with
`messages` (a chat that ends with the assistant), or with `instruction` and `response`.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import chz
import msgspec
import numpy as np

from tinker_rl import AdamParams, Datum, ServiceClient
from tinker_rl.data import read_jsonl
from tinker_rl.envs.arithmetic_problems import format_question, sample_problem
from tinker_rl.lineup import renderer_name
from tinker_rl.recipes.command import run_command
from tinker_rl.renderers import Message, TrainOnWhat, get_renderer
from tinker_rl.supervised.data import conversation_to_datum
from tinker_rl.types import LossFnOutput


@chz.chz
class Config:
    """Options of the command line, each as `name=value`."""

    model_name: str = chz.field(default="tiny", doc="Base model: lineup, hub name or folder.")
    data_path: str | None = chz.field(default=None, doc="A JSON Lines file; None: sums.")
    batch_size: int = chz.field(default=64, doc="Conversations a step.")
    learning_rate: float = chz.field(default=1e-3, doc="Falls linearly to 0 over the run.")
    lora_rank: int = chz.field(default=32, doc="Rank of the adapter.")
    max_length: int = chz.field(default=512, doc="Longest conversation, in tokens.")
    max_steps: int = chz.field(default=30, doc="Optimiser steps.")
    seed: int = chz.field(default=0, doc="Seed of the adapter and of the order of the data.")
    log_path: str = chz.field(default="runs/sl_loop", doc="Where metrics.jsonl goes.")


class Row(msgspec.Struct):
    """A line of a data file."""

    messages: list[dict[str, str]] = []
    instruction: str = ""
    response: str = ""

    def __post_init__(self) -> None:
        if not self.messages and not (self.instruction and self.response):
            raise ValueError("expected `messages`, or `instruction` and `response`; got neither")

    @property
    def conversation(self) -> list[Message]:
        """The chat to train on."""
        if self.messages:
            return [Message(role=m["role"], content=m["content"]) for m in self.messages]
        return conversation(self.instruction, self.response)


def conversation(question: str, answer: str) -> list[Message]:
    """A chat of one turn."""
    return [
        Message(role="user", content=question),
        Message(role="assistant", content=answer),
    ]


def conversations_of(config: Config) -> list[list[Message]]:
    """What to train on, in a seeded order."""
    rng = random.Random(config.seed)
    if config.data_path is not None:
        rows = read_jsonl(config.data_path, Row)
        rng.shuffle(rows)
        return [row.conversation for row in rows]
    problems = [sample_problem(rng, "train") for _ in range(config.batch_size * config.max_steps)]
    return [conversation(format_question(p.question), f"\\boxed{{{p.answer}}}") for p in problems]


def loss_per_token(outputs: list[LossFnOutput], data: list[Datum]) -> float:
    """Mean negative logprob of the tokens that train, in nats."""
    logprobs = np.concatenate([output["logprobs"].to_numpy() for output in outputs])
    weights = np.concatenate([datum.loss_fn_inputs["weights"].to_numpy() for datum in data])
    return float(-(logprobs * weights).sum() / weights.sum())


def main(config: Config) -> None:
    """Run the recipe."""
    conversations = conversations_of(config)
    log_path = Path(config.log_path).expanduser()
    log_path.mkdir(parents=True, exist_ok=True)

    service_client = ServiceClient()
    training_client = service_client.create_lora_training_client(
        config.model_name, rank=config.lora_rank, seed=config.seed
    )
    renderer = get_renderer(renderer_name(config.model_name), training_client.get_tokenizer())

    for step in range(config.max_steps):
        started = time.perf_counter()
        first = step * config.batch_size
        data = [
            conversation_to_datum(
                conversations[index % len(conversations)],
                renderer,
                max_length=config.max_length,
                train_on_what=TrainOnWhat.ALL_ASSISTANT_MESSAGES,
            )
            for index in range(first, first + config.batch_size)
        ]
        # The loss is a sum over tokens; Adam does not mind the scale of its gradient.
        learning_rate = config.learning_rate * (1 - step / config.max_steps)
        fwdbwd = training_client.forward_backward(data, "cross_entropy")
        optim = training_client.optim_step(AdamParams(learning_rate=learning_rate))
        loss = loss_per_token(fwdbwd.result().loss_fn_outputs, data)
        optim.result()
        metrics = {
            "step": step,
            "train_mean_nll": loss,
            "learning_rate": learning_rate,
            "tokens": sum(datum.model_input.length for datum in data),
            "seconds": time.perf_counter() - started,
        }
        with (log_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        print(f"step {step}: loss {loss:.4f} nats a token, {metrics['seconds']:.1f} s")

    path = training_client.save_state("final", overwrite=True).result().path
    print(f"saved {path}; metrics in {log_path / 'metrics.jsonl'}")


if __name__ == "__main__":
    run_command(main, Config)
