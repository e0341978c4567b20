"""The learner against a bare loop of torch and peft, on what RL and fine-tuning ask of it.

    python benchmarks/learner.py [--parts equal,ragged,group,episode,memory] [--models tiny,small]

Both sides train the same adapter on the same data by the same loss, in turns within one process;
the figure is the median over the rounds. A learner that computes each unique token once computes
`unique_ratio` times fewer than one that shares nothing, and `padded_ratio` times fewer than a loop
that pads; what goes beyond that has other reasons. One is that the bare loop takes all rows at
once, which is slow on a CPU; `--bare-tokens 4096` gives it batches of at most that many tokens.
With a GPU the models are random ones of the size of Qwen3-0.6B and 8B.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

import tinker_rl.openmp  # noqa: F401  # before torch: both sides wait for threads the same way

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from bare_loop import LEARNING_RATE, BareLoop
from models import SHAPES, random_model
from peak_memory import in_process_of_its_own, measure
from report import report
from timing import in_turns, ratio
from transformers import AutoConfig
from transformers.utils.logging import disable_progress_bar
from workloads import WORKLOADS, Workload

from tinker_rl import AdamParams, ServiceClient, TrainingClient
from tinker_rl.lineup import model_path

ASKED = {"equal": 0.95, "ragged": 1.5, "group": 2.5, "episode": 2.5}
"""Least ratio that is asked of each workload."""
ASKED_MEMORY = 0.5
"""Greatest ratio of peak memory that is asked."""
TOLERANCE = 1e-2 if torch.cuda.is_available() else 1e-3
"""Greatest relative difference of the two losses; bfloat16 has 8 bits of precision."""

Row = tuple[str, str, str]


def our_step(client: TrainingClient, work: Workload) -> float:
    """One training step; returns the loss before it."""
    fwdbwd = client.forward_backward(work.data, work.loss_fn)
    optim = client.optim_step(AdamParams(learning_rate=LEARNING_RATE))
    optim.result()
    return fwdbwd.result().metrics["loss:sum"]


def check_losses(name: str, ours: float, bare: float) -> None:
    """Refuse to time two sides that do not compute the same."""
    if not abs(ours - bare) <= TOLERANCE * abs(bare):
        raise SystemExit(
            f"{name}: expected losses that agree to {TOLERANCE:g}; got {ours!r} of ours and "
            f"{bare!r} of the bare loop. One of them is wrong, so no times are given."
        )


def compare(
    name: str, base_model: str, work: Workload, options: argparse.Namespace
) -> tuple[float, float]:
    """(ratio, tokens/s of ours) of one training step, on adapters fresh for this workload."""
    with ServiceClient() as service:
        client = service.create_lora_training_client(base_model, rank=32, seed=0)
        if work.loss_fn != "cross_entropy":
            outputs = client.forward(work.data, work.loss_fn).result().loss_fn_outputs
            work = work.with_sampler_logprobs([o["logprobs"].to_numpy() for o in outputs])
        bare = BareLoop(base_model, work, options.bare_tokens)
        check_losses(name, our_step(client, work), bare.fit())
        our_seconds, bare_seconds = in_turns(
            lambda: our_step(client, work), bare.step, options.rounds, warm_up=False
        )
    return ratio(our_seconds, bare_seconds), work.tokens / statistics.median(our_seconds)


def free_memory() -> None:
    """Give back what the last workload held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def speed(
    part: str, label: str, base_model: str, options: argparse.Namespace, figures: dict[str, float]
) -> Row:
    """Add the figures of one workload on one model; returns their row of the table."""
    vocab = AutoConfig.from_pretrained(model_path(base_model)).vocab_size
    work = WORKLOADS[part](vocab, np.random.default_rng(0))
    tokens, unique, padded = work.tokens, work.unique_tokens, work.padded_tokens
    faster, per_second = compare(f"{part}, {label}", base_model, work, options)
    figures |= {
        f"{part}_{label}": faster,
        f"{part}_tokens_{label}": tokens,
        f"{part}_unique_tokens_{label}": unique,
        f"{part}_unique_ratio_{label}": tokens / unique,
        f"{part}_padded_ratio_{label}": padded / unique,
        f"{part}_tokens_per_second_{label}": per_second,
    }
    how = (
        f"{tokens} tokens, {unique} unique (of all {tokens / unique:.2f} x, "
        f"of padded {padded / unique:.2f} x); {per_second:.0f} tokens/s; asked {ASKED[part]} x"
    )
    return f"{part}, {label}", f"{faster:.2f} x", how


def memory(folder: Path, figures: dict[str, float]) -> Row:
    """Add the figures of peak memory; returns their row of the table."""
    base_model = random_model("wide", folder)
    ours, bare = (in_process_of_its_own(__file__, side, base_model) for side in ("ours", "bare"))
    figures |= {"memory_ratio": ours / bare, "memory_ours_mb": ours, "memory_bare_mb": bare}
    how = (
        f"{ours:.0f} MB of ours, {bare:.0f} MB of the bare loop above the loaded model, 4 answers "
        f"of 100 tokens to 300, vocabulary 151936; asked {ASKED_MEMORY} x at most"
    )
    return "memory", f"{ours / bare:.2f} x", how


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--parts", default=",".join([*WORKLOADS, "memory"]))
    parser.add_argument(
        "--models", default="0.6b,8b" if torch.cuda.is_available() else "tiny,small"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--bare-tokens", type=int, help="tokens of a batch of the bare loop (as many as fit)"
    )
    parser.add_argument("--memory-of", choices=("ours", "bare"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        return options
    options.parts, options.models = options.parts.split(","), options.models.split(",")
    for given, known in (
        (options.parts, [*WORKLOADS, "memory"]),
        (options.models, ["tiny", *SHAPES]),
    ):
        if unknown := set(given) - set(known):
            parser.error(f"expected some of {', '.join(known)}; got {', '.join(unknown)}")
    return options


def main() -> None:
    options = parse()
    disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")  # nothing is merged here
    if options.memory_of:
        measure(options.memory_of, options.models)
        return
    rows: list[Row] = []
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="tinker_rl_bench_") as name:
        folder = Path(name)
        os.environ["TINKER_RL_HOME"] = str(folder / "home")
        for label in options.models:
            parts = [part for part in options.parts if part in WORKLOADS]
            if not parts:
                break
            base_model = "tiny" if label == "tiny" else random_model(label, folder / label)
            for part in parts:
                print(f"{part}, {label}", file=sys.stderr)
                rows.append(speed(part, label, base_model, options, figures))
                free_memory()
        if "memory" in options.parts:
            print("memory", file=sys.stderr)
            rows.append(memory(folder / "wide", figures))
    report(f"Learner, {torch.get_num_threads()} threads", rows, figures)


if __name__ == "__main__":
    main()
