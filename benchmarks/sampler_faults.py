"""Part of `sampler.py`: engines that are killed under load, and a thousand publishes."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import psutil
import torch
from safetensors import safe_open

from tinker_rl.engine.content_hash import content_hash
from tinker_rl.engine.samplers.base import AdapterWeights, SampleJob, StopRule
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.engine.samplers.vllm.sampler import VllmSampler
from tinker_rl.lineup import model_path

REQUESTS = 600


class Answers:
    """Takes the answers of a sampler."""

    def __init__(self) -> None:
        self.count: Counter[int] = Counter()
        self.answers: dict[int, Any] = {}
        self.at: dict[int, float] = {}

    def __call__(self, job_id: int, answer: Any) -> None:
        self.count[job_id] += 1
        self.answers[job_id] = answer
        self.at[job_id] = time.monotonic()

    async def wait_for(self, ids: range) -> None:
        while not all(i in self.answers for i in ids):  # noqa: ASYNC110
            await anyio.sleep(0.02)


def _adapter(seed: int, rank: int = 4) -> AdapterWeights:
    with safe_open(Path(model_path("tiny")) / "model.safetensors", "pt") as file:
        names = [n for n in file.keys() if "q_proj" in n or "down_proj" in n]  # noqa: SIM118
        shapes = {name.removesuffix(".weight"): file.get_slice(name).get_shape() for name in names}
    torch.manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, (outputs, inputs) in shapes.items():
        path = f"base_model.model.{name}"
        tensors[f"{path}.lora_A.weight"] = torch.randn(rank, inputs) * 0.1
        tensors[f"{path}.lora_B.weight"] = torch.randn(outputs, rank) * 0.1
    return AdapterWeights(tensors, 2.0, content_hash(tensors))


def _sampler(finish: Answers) -> VllmSampler:
    is_cpu = not torch.cuda.is_available()
    dtype = "float32" if is_cpu else "bfloat16"
    config = VllmSamplerConfig(kv_cache_gb=0.2)
    return VllmSampler(model_path("tiny"), 1024, dtype, is_cpu, config, finish)


def _job(job_id: int, version: str, **fields: Any) -> SampleJob:
    defaults: dict[str, Any] = {
        "prompt": tuple(range(3, 10 + job_id % 30)),
        "num_samples": 1,
        "max_tokens": 100 + job_id % 300,
        "seed": job_id % REQUESTS,
        "stop": StopRule(),
        "temperature": 1.0,
        "top_k": -1,
        "top_p": 1.0,
    }
    return SampleJob(job_id=job_id, version=version, **{**defaults, **fields})


def faults(kills: int) -> tuple[list[tuple[str, str, str]], dict[str, float]]:
    """Kill and stop processes of the engine at random while requests of two versions run."""
    answers, rng = Answers(), random.Random(0)
    noticed: list[float] = []
    submitted: dict[int, float] = {}

    async def main() -> None:
        sampler = _sampler(answers)
        weights = _adapter(0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            await sampler.load("v", weights)
            for first in (0, REQUESTS):  # undisturbed, then disturbed
                began = time.monotonic()
                for i in range(first, first + REQUESTS):
                    submitted[i] = time.monotonic()
                    sampler.start(_job(i, "v" if i % 2 else ""))
                for _ in range(kills if first else 0):
                    while not sampler.pids:  # noqa: ASYNC110
                        await anyio.sleep(0.05)
                    pids, there = sampler.pids, len(answers.answers)
                    while len(answers.answers) == there:  # noqa: ASYNC110
                        await anyio.sleep(0.01)  # an engine that answers nothing counts as failed
                    await anyio.sleep(rng.uniform(0, 1.5))
                    if len(answers.answers) == 2 * REQUESTS:
                        break
                    struck = time.monotonic()
                    os.kill(rng.choice(pids), rng.choice((signal.SIGKILL, signal.SIGSTOP)))
                    while sampler.pids == pids:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                    noticed.append(time.monotonic() - struck)
                await answers.wait_for(range(first, first + REQUESTS))
                print(f"{REQUESTS} requests in {time.monotonic() - began:.0f} s", flush=True)
            tasks.cancel_scope.cancel()

    anyio.run(main, backend="trio")
    disturbed = range(REQUESTS, 2 * REQUESTS)
    lost = [i for i in disturbed if isinstance(answers.answers.get(i, KeyError()), Exception)]
    other = [
        i
        for i in disturbed
        if i not in lost
        and answers.answers[i].sequences[0].tokens
        != answers.answers[i - REQUESTS].sequences[0].tokens
    ]
    figures = {
        "kills": len(noticed),
        "lost": len(lost),
        "doubled": sum(count > 1 for count in answers.count.values()),
        "other_tokens": len(other),
        "noticed_s": max(noticed, default=0.0),
        "longest_wait_s": max(answers.at[i] - submitted[i] for i in disturbed),
    }
    row = (
        f"{REQUESTS} requests, {len(noticed)} engines killed or stopped",
        f"{figures['lost']:.0f} lost, {figures['doubled']:.0f} twice",
        f"{figures['other_tokens']:.0f} with other tokens; noticed within "
        f"{figures['noticed_s']:.1f} s; longest wait {figures['longest_wait_s']:.0f} s",
    )
    return [row], figures


def publishes(count: int) -> tuple[list[tuple[str, str, str]], dict[str, float]]:
    """Load, sample from and unload that many versions; what is left of them."""
    answers = Answers()
    sizes: list[float] = []
    files: list[int] = []

    async def main() -> float:
        sampler = _sampler(answers)
        began = 0.0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            for number in range(count):
                weights = _adapter(number)
                await sampler.load(weights.version, weights)
                began = began or time.monotonic()
                sampler.start(_job(number, weights.version, max_tokens=2))
                sampler.unload(weights.version)
                await answers.wait_for(range(number, number + 1))
                if number % (count // 10) == count // 10 - 1:
                    pids = [os.getpid(), *sampler.pids]
                    sizes.append(sum(psutil.Process(pid).memory_info().rss for pid in pids) / 1e6)
                    roots = sampler._open_folders().roots
                    files.append(sum(len(list(root.iterdir())) for root in roots))
            seconds = time.monotonic() - began
            tasks.cancel_scope.cancel()
        return seconds

    seconds = anyio.run(main, backend="trio")
    figures = {
        "publishes": count,
        "publishes_per_second": (count - 1) / seconds,
        "folders_left": max(files),
        "memory_growth_mb": sizes[-1] - sizes[1],
    }
    row = (
        f"{count} versions, one after the other",
        f"{figures['memory_growth_mb']:.0f} MB more",
        f"all processes, from the second tenth to the last; at most {max(files)} folder at a time",
    )
    return [row], figures
