"""The figures of the README: learner and sampler against bare loops, and the demo.

    python benchmarks/first_run.py [--parts learner,sampler,demo] [--seeds 3]

Every ratio compares two ways of doing the same work, taken in turns within one process; the
figure is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TINKER_RL_HOME", tempfile.mkdtemp(prefix="tinker_rl_bench_"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import peft
import psutil
import torch
from models import small_model
from report import report
from timing import in_turns, ratio
from transformers import AutoModelForCausalLM

from tinker_rl import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.embedded import EmbeddedSamplerConfig
from tinker_rl.lineup import model_path

ROWS, LENGTH = 32, 256
"""The learner's work: equal sequences."""
REQUESTS, AT_ONCE = 256, 64
"""The sampler's work: requests, and sequences sampled at once."""


# -------------------------------------------------------------------------------------- learner


def learner(base_model: str, rounds: int) -> tuple[float, float]:
    """(ratio, tokens/s of ours) of forward_backward + optim_step on equal sequences."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, 1000, (ROWS, LENGTH + 1))
    data = [
        Datum(ModelInput.from_ints(row[:-1].tolist()), {"target_tokens": row[1:]}) for row in tokens
    ]
    client = ServiceClient().create_lora_training_client(base_model, rank=32, seed=0)

    def ours() -> None:
        fwdbwd = client.forward_backward(data, "cross_entropy")
        optim = client.optim_step(AdamParams(learning_rate=1e-4))
        fwdbwd.result(), optim.result()

    targets = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
        "lm_head",
    ]
    model = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32),
        peft.LoraConfig(r=32, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"),
    )
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-4, betas=(0.9, 0.95), eps=1e-12
    )
    ids = torch.from_numpy(tokens)

    def bare() -> None:
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="sum"
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    our_seconds, bare_seconds = in_turns(ours, bare, rounds)
    return ratio(our_seconds, bare_seconds), ROWS * LENGTH / statistics.median(our_seconds)


# -------------------------------------------------------------------------------------- sampler


def sampler(base_model: str, rounds: int) -> tuple[float, float]:
    """(ratio, useful tokens/s of ours) of requests of mixed length."""
    generator = np.random.default_rng(0)
    prompts = [
        generator.integers(20, 1000, generator.integers(8, 65)).tolist() for _ in range(REQUESTS)
    ]
    limits = [int(n) for n in generator.integers(16, 129, REQUESTS)]
    options = EngineOptions(sampler=EmbeddedSamplerConfig(max_rows=AT_ONCE))
    service = ServiceClient(engine_options=options)
    client = service.create_sampling_client(base_model=base_model)

    def ours() -> None:
        futures = [
            client.sample(
                ModelInput.from_ints(prompt),
                1,
                SamplingParams(max_tokens=limit, stop=[], seed=index),
            )
            for index, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
        ]
        assert [len(f.result().sequences[0].tokens_np) for f in futures] == limits

    model = AutoModelForCausalLM.from_pretrained(model_path(base_model), dtype=torch.float32).eval()

    def bare() -> None:
        for first in range(0, REQUESTS, AT_ONCE):
            rows, longest = prompts[first : first + AT_ONCE], max(limits[first : first + AT_ONCE])
            width = max(map(len, rows))
            ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            with torch.inference_mode():
                model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    min_new_tokens=longest,
                    max_new_tokens=longest,
                    pad_token_id=0,
                )

    our_seconds, bare_seconds = in_turns(ours, bare, rounds)
    service.close()
    return ratio(our_seconds, bare_seconds), sum(limits) / statistics.median(our_seconds)


# ----------------------------------------------------------------------------------------- demo


def peak_memory_gb(process: psutil.Process, until: threading.Event) -> float:
    """Greatest resident memory of a process and its children, in 1e9 bytes."""
    peak = 0
    while not until.wait(0.2):
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:
            break
    return peak / 1e9


def demo(seed: int, folder: Path) -> dict[str, float]:
    """Run what `make demo` runs, and read its summary."""
    log_path = folder / f"seed_{seed}"
    command = [
        *(sys.executable, "-m", "tinker_rl.recipes.rl_basic"),
        *("model_name=tiny", "dataset=arithmetic", f"seed={seed}", f"log_path={log_path}"),
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ended = threading.Event()
    peak: list[float] = []
    watcher = threading.Thread(
        target=lambda: peak.append(peak_memory_gb(psutil.Process(process.pid), ended))
    )
    watcher.start()
    status = process.wait()
    ended.set()
    watcher.join()
    if status != 0:
        raise SystemExit(f"demo with seed {seed}: expected exit status 0; got {status}.")
    summary = json.loads((log_path / "summary.json").read_text())
    return {
        "before": summary["accuracy_before"],
        "after": summary["accuracy_after"],
        "seconds": time.perf_counter() - started,
        "peak_rss_gb": peak[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="learner,sampler,demo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    parts = options.parts.split(",")
    rows: list[tuple[str, str, str]] = []
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = small_model(folder / "small")
        if "learner" in parts:
            print("learner: about two minutes", file=sys.stderr)
            figures["learner_ratio"], speed = learner(small, options.rounds)
            rows.append(
                (
                    "learner, 27M parameters",
                    f"{figures['learner_ratio']:.2f} x",
                    f"{speed:.0f} tokens/s on {ROWS} x {LENGTH}, over bare torch + peft",
                )
            )
        if "sampler" in parts:
            for label, model in (("tiny", "tiny"), ("small", small)):
                print(f"sampler, {label}: about two minutes", file=sys.stderr)
                key = f"sampler_ratio_{label}"
                figures[key], speed = sampler(model, options.rounds)
                rows.append(
                    (
                        f"embedded sampler, {label}",
                        f"{figures[key]:.2f} x",
                        f"{speed:.0f} useful tokens/s, {REQUESTS} requests, over generate() in "
                        f"batches of {AT_ONCE}",
                    )
                )
        if "demo" in parts:
            print(f"demo: about two minutes for each of {options.seeds} seeds", file=sys.stderr)
            runs = [demo(seed, folder) for seed in range(options.seeds)]
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            gain = statistics.median(run["after"] - run["before"] for run in runs)
            figures |= {
                "accuracy_before": middle["before"],
                "accuracy_after": middle["after"],
                "accuracy_gain": gain,
                "seconds": middle["seconds"],
                "peak_rss_gb": max(run["peak_rss_gb"] for run in runs),
            }
            how = f"held-out sums, median of {options.seeds} seeds"
            rows += [
                ("demo: accuracy before", f"{middle['before']:.3f}", how),
                ("demo: accuracy after", f"{middle['after']:.3f}", how),
                ("demo: gain", f"{gain:.3f}", how),
                ("demo: seconds", f"{middle['seconds']:.0f}", "start to end, set-up not counted"),
                ("demo: peak memory", f"{figures['peak_rss_gb']:.2f} GB", "largest of the seeds"),
            ]
    report("First run", rows, figures)


if __name__ == "__main__":
    main()
