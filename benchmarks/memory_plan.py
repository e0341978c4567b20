"""The memory plan's estimate of a micro-batch against what one takes on this CPU.

    python benchmarks/memory_plan.py llama float32 --checkpointing --tokens 4096

Linux alone: see `peak_memory`. Each measurement needs a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np
import torch
from models import SHAPES
from peak_memory import growth_mb
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from tinker_rl.architectures import Architecture
from tinker_rl.engine.learner import Learner, LearnerConfig
from tinker_rl.memory_plan import Device, Setup, learner_memory
from tinker_rl.types import Datum, LoraConfig, ModelInput

_KINDS = {"llama": LlamaConfig, "qwen3": Qwen3Config}
_LENGTH = 256


def sequences(number: int, length: int) -> list[Datum]:
    """Random sequences that share nothing."""
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 8192, (number, length + 1))
    return [
        Datum(ModelInput.from_ints(row[:-1].tolist()), {"target_tokens": row[1:]}) for row in rows
    ]


def run(learner: Learner, data: list[Datum]) -> None:
    """One forward_backward."""
    for _ in learner.forward_backward("adapter", data, "cross_entropy"):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=_KINDS)
    parser.add_argument("dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--tokens", type=int, default=4096)
    options = parser.parse_args()

    torch.manual_seed(0)
    config = _KINDS[options.kind](**SHAPES["small"])
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, options.dtype))
    settings = LearnerConfig(
        token_budget=options.tokens, gradient_checkpointing=options.checkpointing
    )
    learner = Learner(model.requires_grad_(False).eval(), "random", 4096, settings)
    lora = LoraConfig(seed=0)
    learner.create("adapter", lora)
    run(learner, sequences(1, 8))  # reads all weights once, so that they are resident
    learner.adapter("adapter").gradients.clear()
    work = sequences(options.tokens // _LENGTH, _LENGTH)
    measured = growth_mb(lambda: run(learner, work))
    setup = Setup(
        model_name="random",
        model=Architecture.from_config(config),
        context=4096,
        device=Device(
            kind="cpu",
            total_bytes=1,
            free_bytes=1,
            keeps_freed="MALLOC_MMAP_THRESHOLD_" not in os.environ,
        ),
        dtype=options.dtype,
        learner=settings,
        sampler=None,
        lora=lora,
    )
    plan = learner_memory(setup)
    gradients = plan.adapter  # those of this one request
    estimate = (plan.activations + plan.logits + plan.allocator + gradients) / 1e6
    print(json.dumps({"measured_mb": measured, "estimate_mb": estimate}))


if __name__ == "__main__":
    main()
