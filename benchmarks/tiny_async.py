"""What off-policy sampling costs in accuracy: the shipped model on sums, on the same data."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from itertools import pairwise
from pathlib import Path

import anyio
import numpy as np

from tinker_rl import ServiceClient
from tinker_rl.envs import get_dataset_builder
from tinker_rl.lineup import renderer_name
from tinker_rl.rl import AsyncConfig, Config, main

GROUPS, MEMBERS, STEPS, EVAL_EVERY = 16, 8, 24, 4
ACCURACY = "test/env/all/correct"

Curve = list[tuple[int, float]]
"""(tokens sampled for the steps so far, held-out accuracy)."""


def config(max_steps_off_policy: int, seed: int, log_path: str, steps: int) -> Config:
    """A run that is on-policy, or asynchronous with this bound."""
    schedule = AsyncConfig(max_steps_off_policy=max_steps_off_policy, groups_per_batch=GROUPS)
    renderer = renderer_name("tiny")
    data = get_dataset_builder(
        "arithmetic",
        batch_size=GROUPS,
        group_size=MEMBERS,
        model_name_for_tokenizer="tiny",
        renderer_name=renderer,
        seed=seed,
        n_batches=1000,
        n_test=200,
    )
    return Config(
        model_name="tiny",
        renderer_name=renderer,
        dataset_builder=data,
        learning_rate=1e-3,
        max_tokens=16,
        max_steps=steps,
        eval_every=EVAL_EVERY,
        save_every=0,
        num_groups_to_log=0,
        seed=seed,
        log_path=log_path,
        async_config=schedule if max_steps_off_policy else None,
    )


def curve(rows: list[dict[str, float]]) -> Curve:
    """Accuracy over sampled tokens, from the rows of a run."""
    tokens = {int(row["step"]): row["sampling/tokens"] for row in rows if "sampling/tokens" in row}
    accuracy = {int(row["step"]): row[ACCURACY] for row in rows if ACCURACY in row}
    return [
        (int(sum(n for step, n in tokens.items() if step < version)), accuracy[version])
        for version in sorted(accuracy)
    ]


def tokens_to_reach(points: Curve, accuracy: float) -> float:
    """Tokens sampled until the accuracy is first reached, between evaluations by a line."""
    for (before, low), (after, high) in pairwise(points):
        if low < accuracy <= high:
            return before + (after - before) * (accuracy - low) / (high - low)
    return float(points[0][0]) if points and points[0][1] >= accuracy else float("nan")


def mean_accuracy(points: Curve) -> float:
    """Over the sampled tokens, by trapezia."""
    tokens, accuracy = np.array(points).T
    return float(np.trapezoid(accuracy, tokens) / (tokens[-1] - tokens[0]))


def runs(max_steps_off_policy: int, seeds: int, steps: int = STEPS) -> list[Curve]:
    """One curve for each seed."""
    curves: list[Curve] = []
    with ServiceClient() as service:
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                options = config(max_steps_off_policy, seed, f"{folder}/run", steps)
                with contextlib.redirect_stdout(io.StringIO()):
                    anyio.run(main, options, service, backend="trio")
                lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
            curves.append(curve([json.loads(line) for line in lines]))
    return curves
