"""The RL runtime: what it costs, how well sampling and training overlap, what age costs.

    python benchmarks/runtime.py [--parts overhead,memory,overlap,tiny] [--seeds 3]

Overhead is counted in CPU time of the one thread that all of it runs in, so that other work on the
machine does not count; each round measures the loops in turn, and the figure is the median.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("TINKER_RL_HOME", tempfile.mkdtemp(prefix="tinker_rl_bench_"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import overhead
import overlap
import tiny_async
from overlap import Overlap, Schedule
from report import report

from tinker_rl.rl.heap import frozen_heap

ENVIRONMENTS, WAITING = 1000, 10_000
AGES = (1, 2, 4, 8)
MASKED = 0.125
"""Share of a batch that "mask" may leave to go over age at a time."""
TARGET_ACCURACY = 0.8

Row = tuple[str, str, str]
Rows = tuple[list[Row], dict[str, float]]


def measure_overhead(rounds: int) -> Rows:
    """Steps a second over those of the bare loop, on both backends."""
    work = overhead.tokeniser_work()
    steps = ENVIRONMENTS * overhead.TURNS
    seconds: dict[str, list[float]] = {"bare": [], "trio": [], "asyncio": []}
    overhead.bare(ENVIRONMENTS, work), overhead.runtime(ENVIRONMENTS, work, "trio")
    with frozen_heap():  # as in a run; the bare loop has the same of it
        for _ in range(rounds):
            seconds["bare"].append(overhead.bare(ENVIRONMENTS, work))
            for backend in ("trio", "asyncio"):
                seconds[backend].append(overhead.runtime(ENVIRONMENTS, work, backend))
    rows: list[Row] = []
    figures: dict[str, float] = {}
    added: list[float] = []
    for backend in ("trio", "asyncio"):
        pairs = list(zip(seconds["bare"], seconds[backend], strict=True))
        figures[f"overhead_{backend}"] = statistics.median(b / o for b, o in pairs)
        added.append(statistics.median(o - b for b, o in pairs) / steps * 1e6)
        rate = steps / statistics.median(seconds[backend])
        how = f"{rate:.0f} environment steps/s; +{added[-1]:.0f} us a step"
        rows.append((f"{backend} / bare gather", f"{figures[f'overhead_{backend}']:.2f}", how))
    bare_us = statistics.median(seconds["bare"]) / steps * 1e6
    rows.append(("bare gather", f"{bare_us:.0f} us a step", "0.25 ms of it the tokenizer's"))
    return rows, figures | {"us_per_step": max(added)}


def measure_memory() -> Rows:
    """Resident memory of environments that wait for the sampler."""
    found = {backend: overhead.kb_per_env(WAITING, backend) for backend in ("trio", "asyncio")}
    rows = [
        (f"waiting environment, {backend}", f"{kb:.1f} KiB", f"{WAITING} wait for the sampler")
        for backend, kb in found.items()
    ]
    return rows, {"kb_per_env": max(found.values())}


def schedules() -> dict[str, Schedule]:
    """Those of the table, by the key of their figure."""
    found = {
        "on_policy": Schedule("on-policy"),
        "streaming": Schedule("streaming, 4 minibatches", num_minibatches=4),
    }
    for age in AGES:
        found[f"wait_{age}"] = Schedule(f"wait, {age} off-policy", age)
    for age in AGES:
        found[f"mask_{age}"] = Schedule(
            f"mask up to {MASKED:.1%}, {age} off-policy", age, "mask", max_masked_fraction=MASKED
        )
    found["mask_4_all"] = Schedule("mask without a bound, 4 off-policy", 4, "mask")
    found["streaming_4"] = Schedule("wait, 4 off-policy, 4 minibatches", 4, num_minibatches=4)
    return found


def measure_overlap(steps: int) -> Rows:
    """Wall-clock over the ideal, by schedule, and for one that discards."""
    named = schedules()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        results = pool.map(overlap.simulate, named.values(), [steps] * len(named))
        found = dict(zip(named, results, strict=True))
    rows = [_overlap_row(named[key].name, result) for key, result in found.items()]
    discarding = {age: overlap.simulate_discarding(age, steps) for age in AGES}
    rows += [_overlap_row(f"discard and resample, {age}", r) for age, r in discarding.items()]
    figures = {key: result.wall_over_ideal for key, result in found.items()}
    figures |= {f"mask_{age}_wasted": found[f"mask_{age}"].wasted for age in AGES}
    figures["mask_4_all_wasted"] = found["mask_4_all"].wasted
    figures |= {f"discard_{age}": result.wall_over_ideal for age, result in discarding.items()}
    figures |= {f"discard_{age}_wasted": result.wasted for age, result in discarding.items()}
    return rows, figures


def _overlap_row(name: str, result: Overlap) -> Row:
    how = f"highest age {result.highest_age}, {result.wasted:.1%} of the tokens wasted"
    return name, f"{result.wall_over_ideal:.3f}", how


def measure_tiny(seeds: int) -> Rows:
    """Held-out accuracy of the shipped model, by age."""
    rows: list[Row] = []
    figures: dict[str, float] = {}
    for age in (0, 1, 2, 4):
        curves = tiny_async.runs(age, seeds)
        final = statistics.mean(points[-1][1] for points in curves)
        mean = statistics.mean(tiny_async.mean_accuracy(points) for points in curves)
        tokens = [tiny_async.tokens_to_reach(points, TARGET_ACCURACY) for points in curves]
        name = f"async, {age} off-policy" if age else "on-policy"
        each = ", ".join(f"{points[-1][1]:.2f}" for points in curves)
        how = (
            f"after {statistics.mean(points[-1][0] for points in curves):.0f} tokens "
            f"({each}); mean on the way {mean:.2f}; "
            f"{statistics.mean(tokens):.0f} tokens to {TARGET_ACCURACY}"
        )
        rows.append((f"accuracy, {name}", f"{final:.3f}", how))
        figures |= {f"accuracy_{age}": final, f"accuracy_{age}_mean": mean}
        figures[f"tokens_to_{TARGET_ACCURACY}_{age}"] = statistics.mean(tokens)
    return rows, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="overhead,memory,overlap,tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=overlap.STEPS, help="of the simulation")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    parts = {
        "overhead": lambda: measure_overhead(options.rounds),
        "memory": measure_memory,
        "overlap": lambda: measure_overlap(options.steps),
        "tiny": lambda: measure_tiny(options.seeds),
    }
    rows: list[Row] = []
    figures: dict[str, float] = {}
    for part in options.parts.split(","):
        found, numbers = parts[part]()
        rows += found
        figures |= numbers
    report("The RL runtime", rows, figures)


if __name__ == "__main__":
    main()
