"""The samplers: speed against a bare vLLM, weights and their proof, faults.

    python benchmarks/sampler.py [--parts speed,groups,publish,gap,faults,publishes] [--model tiny]

Each ratio compares two ways of doing the same work, taken in turns in one run; the figure is the
median over the rounds. With a GPU all of it runs in bfloat16, without in float32.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["TINKER_RL_HOME"] = tempfile.mkdtemp(prefix="tinker_rl_bench_")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import anyio
import numpy as np
import torch
from bare_vllm import ENGINE
from models import random_model
from report import report
from sampler_faults import faults, publishes

from tinker_rl import (
    AdamParams,
    Datum,
    ModelInput,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    TrainingClient,
)
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.lineup import model_path

HOME = Path(os.environ["TINKER_RL_HOME"])
VLLM = VllmSamplerConfig(
    kv_cache_gb=ENGINE["kv_cache_memory_bytes"] / 1e9,
    max_model_len=ENGINE["max_model_len"],
    max_running=ENGINE["max_num_seqs"],
    max_loras=ENGINE["max_loras"],
    max_lora_rank=ENGINE["max_lora_rank"],
)
Row = tuple[str, str, str]

_CALM_SECONDS = 3.0
"""Before each measurement: vLLM's workers spin for a while when they have nothing to do, and on a
CPU all engines are bound to the same cores."""


def work(requests: int, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    """Prompts of 32 to 96 tokens, and answers of 24 to 72."""
    generator = np.random.default_rng(seed)
    prompts = [
        generator.integers(0, 1000, n).tolist() for n in generator.integers(32, 97, requests)
    ]
    return prompts, generator.integers(24, 73, requests).tolist()


class BareVllm:
    """The baseline's process."""

    def __init__(self, model: str, adapter: str, *options: str) -> None:
        script = str(Path(__file__).with_name("bare_vllm.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, model, adapter, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer("READY")

    def _answer(self, tag: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(tag):
                return line.removeprefix(tag)
        raise RuntimeError("the bare vLLM ended")

    def rate(self, prompts: Sequence[Any], lengths: Sequence[int], **fields: Any) -> float:
        """Tokens a second."""
        assert self._process.stdin is not None
        given = {"prompts": prompts, "lengths": lengths, "seeded": False, "adapter": True, **fields}
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        result = json.loads(self._answer("RESULT"))
        return result["tokens"] / result["seconds"]

    def close(self) -> None:
        self._process.communicate()


def our_rate(
    client: SamplingClient,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int],
    *,
    seeded: bool = False,
    samples: int = 1,
) -> float:
    """Tokens a second of `sample_async`, all requests at once."""
    tokens = 0

    async def one(prompt: Sequence[int], length: int, seed: int) -> None:
        nonlocal tokens
        params = SamplingParams(max_tokens=length, stop=[], seed=seed if seeded else None)
        future = await client.sample_async(ModelInput.from_ints(prompt), samples, params)
        sequences = (await future).sequences
        tokens += sum(len(sequence.tokens_np) for sequence in sequences)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for seed, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
                tasks.start_soon(one, prompt, length, seed)

    began = time.perf_counter()
    anyio.run(main, backend="trio")
    return tokens / (time.perf_counter() - began)


def rates(ways: Sequence[Callable[[int], float]], rounds: int) -> list[list[float]]:
    """Each way's rates, in turns, after a warm-up; a way is given the round, for fresh prompts."""

    def calm(way: Callable[[int], float], turn: int) -> float:
        time.sleep(_CALM_SECONDS)
        return way(turn)

    for way in ways:
        way(10_000)
    taken: list[list[float]] = []
    for turn in range(rounds):
        taken.append([calm(way, turn) for way in ways])
        print("tokens/s:", ", ".join(f"{rate:,.0f}" for rate in taken[-1]), flush=True)
    return [list(column) for column in zip(*taken, strict=True)]


def ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, others, strict=True))


def train(client: TrainingClient, steps: int) -> None:
    generator = np.random.default_rng(7)
    for _ in range(steps):
        tokens = generator.integers(0, 1000, 64)
        datum = Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]})
        client.forward_backward([datum], "cross_entropy")
        client.optim_step(AdamParams(learning_rate=1e-3)).result()


def speed(
    model: str, client: SamplingClient, base: SamplingClient, adapter: str, rounds: int
) -> tuple[list[Row], dict[str, float]]:
    rows: list[Row] = []
    figures: dict[str, float] = {}
    bare, mended = BareVllm(model, adapter), BareVllm(model, adapter, "--mended")
    for name, requests in (("vllm_64", 64), ("vllm_1000", 1000)):
        ours, plain, same = rates(
            [
                lambda turn, n=requests: our_rate(client, *work(n, turn)),
                lambda turn, n=requests: bare.rate(*work(n, turn)),
                lambda turn, n=requests: mended.rate(*work(n, turn)),
            ],
            rounds if requests < 1000 else max(1, rounds // 3),
        )
        figures[name] = ratio(ours, plain)
        figures[f"{name}_mended"] = ratio(ours, same)
        figures[f"{name}_tokens_per_second"] = statistics.median(ours)
        rates_ = f"bare {statistics.median(plain):,.0f}, {statistics.median(same):,.0f}"
        rows += [
            (f"{requests} requests", f"{figures[name]:.2f} x", "LLM.generate as installed"),
            ("", f"{figures[f'{name}_mended']:.2f} x", "LLM.generate with our patches"),
            ("", f"{statistics.median(ours):,.0f} tokens/s", rates_),
        ]
    bare.close()  # with seeds it dies on a CPU (see engine/samplers/vllm/patches.py)
    ours, same = rates(
        [
            lambda turn: our_rate(client, *work(64, turn), seeded=True),
            lambda turn: mended.rate(*work(64, turn), seeded=True),
        ],
        rounds,
    )
    figures["vllm_64_seeded_mended"] = ratio(ours, same)
    rows.append(("64 requests with seeds", f"{ratio(ours, same):.2f} x", "with our patches"))
    with_, without = rates(
        [lambda t: our_rate(client, *work(64, t)), lambda t: our_rate(base, *work(64, t))], rounds
    )
    figures["adapter_over_base"] = ratio(with_, without)
    rows.append(("with an adapter", f"{figures['adapter_over_base']:.2f} x", "the base model, 64"))
    mended.close()
    return rows, figures


def groups(clients: dict[str, SamplingClient], rounds: int) -> tuple[list[Row], dict[str, float]]:
    """4 groups of 16 samples to a prompt of 300 tokens."""
    rows: list[Row] = []
    figures: dict[str, float] = {}

    def prompts(turn: int) -> list[list[int]]:
        return np.random.default_rng(turn).integers(0, 1000, (4, 300)).tolist()

    for name, client in clients.items():
        together, apart = rates(
            [
                lambda t, c=client: our_rate(c, prompts(t), [64] * 4, samples=16),
                lambda t, c=client: our_rate(
                    c, [p for p in prompts(t + 500) for _ in range(16)], [64] * 64
                ),
            ],
            rounds,
        )
        figures[f"groups_{name}"] = ratio(together, apart)
        rows.append(
            (
                f"num_samples=16, prompt of 300, {name}",
                f"{figures[f'groups_{name}']:.2f} x",
                "16 separate requests",
            )
        )
    return rows, figures


def publish(training: TrainingClient, name: str) -> tuple[list[Row], dict[str, float]]:
    """From the publish to the first token under the new version, in its parts."""
    parts: list[dict[str, float]] = []
    for _ in range(10):
        train(training, 1)
        began = time.perf_counter()
        client = training.save_weights_and_get_sampling_client()
        published = time.perf_counter()
        client.sample(ModelInput.from_ints([1, 2, 3]), 1, SamplingParams(max_tokens=1)).result()
        done = time.perf_counter()
        sync = client.weight_sync
        assert sync is not None
        parts.append(
            {
                "score": sync.score_seconds,
                "load": sync.load_seconds,
                "probe": sync.probe_seconds,
                "rest": published
                - began
                - sync.score_seconds
                - sync.load_seconds
                - sync.probe_seconds,
                "first token": done - published,
                "all": done - began,
                "difference": sync.max_abs_logprob_diff or 0.0,
            }
        )
        del client
    middle = {key: statistics.median(part[key] for part in parts) for key in parts[0]}
    detail = ", ".join(f"{key} {1000 * middle[key]:.0f}" for key in list(middle)[:-2])
    return [(f"publish to first token, {name}", f"{1000 * middle['all']:.0f} ms", detail)], {
        f"publish_{name}_{key.replace(' ', '_')}_s": value
        for key, value in middle.items()
        if key != "difference"
    } | {f"sync_difference_{name}": max(part["difference"] for part in parts)}


def gap(
    model: str, adapter: str, clients: dict[str, SamplingClient], training: TrainingClient
) -> tuple[list[Row], dict[str, float]]:
    """Largest difference between a sampler's logprobs and those computed from the checkpoint."""
    import peft
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    reference = AutoModelForCausalLM.from_pretrained(model, dtype="auto").to(device)
    reference = peft.PeftModel.from_pretrained(reference, adapter)
    rows: list[Row] = []
    figures: dict[str, float] = {}
    for name, client in clients.items():
        worst = learner_worst = 0.0
        for temperature in (1.0, 1.7):
            for seed, prompt in enumerate(work(8, 3)[0]):
                params = SamplingParams(max_tokens=64, temperature=temperature, seed=seed, stop=[])
                response = client.sample(ModelInput.from_ints(prompt), 2, params).result()
                for sequence in response.sequences:
                    tokens = [*prompt, *sequence.tokens]
                    with torch.no_grad():
                        ids = torch.tensor([tokens], device=device)
                        logits = reference(ids).logits[0, len(prompt) - 1 : -1].double()
                    logprobs = torch.log_softmax(logits / temperature, dim=1)
                    expected = logprobs.gather(1, ids[0, len(prompt) :, None])[:, 0].cpu().numpy()
                    got = np.array(sequence.logprobs, np.float64)
                    worst = max(worst, float(np.abs(got - expected).max()))
                    if temperature == 1:
                        datum = Datum(
                            ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]}
                        )
                        output = training.forward([datum], "cross_entropy").result()
                        own = output.loss_fn_outputs[0]["logprobs"].to_numpy()[len(prompt) - 1 :]
                        learner_worst = max(learner_worst, float(np.abs(got - own).max()))
        figures[f"gap_{name}"], figures[f"gap_{name}_learner"] = worst, learner_worst
        rows.append(
            (
                f"logprobs of {name}, temperatures 1 and 1.7",
                f"{worst:.1e}",
                f"from the checkpoint (learner: {learner_worst:.1e})",
            )
        )
    return rows, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="speed,groups,publish,gap,faults,publishes")
    parser.add_argument("--model", default="tiny", help="tiny, small, 0.6b or 8b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--publishes", type=int, default=1000)
    options = parser.parse_args()
    parts = options.parts.split(",")
    tiny = options.model == "tiny"
    model = model_path("tiny") if tiny else random_model(options.model, HOME / "model")
    rows: list[Row] = []
    figures: dict[str, float] = {}

    def add(result: tuple[list[Row], dict[str, float]]) -> None:
        rows.extend(result[0])
        figures.update(result[1])
        report("the samplers, so far", result[0], result[1])

    if {"speed", "groups", "publish", "gap"} & set(parts):
        services = {
            name: ServiceClient(engine_options=EngineOptions(sampler=sampler))
            for name, sampler in (("embedded", "embedded"), ("vllm", VLLM))
        }
        training = {
            name: service.create_lora_training_client(model, rank=32, seed=1)
            for name, service in services.items()
        }
        for client in training.values():
            train(client, 3)
        clients = {
            name: client.save_weights_and_get_sampling_client() for name, client in training.items()
        }
        path = training["vllm"].save_weights_for_sampler("bench").result().path
        run, kind, name = path.removeprefix("tinker://").split("/")
        adapter = str(HOME / "runs" / run / kind / name)
        if "speed" in parts:
            base = services["vllm"].create_sampling_client(base_model=model)
            add(speed(model, clients["vllm"], base, adapter, options.rounds))
        if "groups" in parts:
            add(groups(clients, options.rounds))
        if "gap" in parts:
            add(gap(model, adapter, clients, training["vllm"]))
        if "publish" in parts:
            for name, client in training.items():
                add(publish(client, name))
        clients.clear()
        for service in services.values():
            service.close()
        gc.collect()
    if "faults" in parts:
        add(faults(options.kills))
    if "publishes" in parts:
        add(publishes(options.publishes))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    shutil.rmtree(HOME)
    report(f"samplers, {options.model}, {device}", rows, figures)


if __name__ == "__main__":
    main()
