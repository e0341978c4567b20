"""Engines that are killed, stopped or cannot start: every request is answered once, or told why."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import anyio
import numpy as np
import psutil
import pytest
import torch

from tinker_rl.engine.content_hash import content_hash
from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.engine.samplers.vllm.sampler import VllmSampler
from tinker_rl.errors import SamplerError, WeightSyncError
from tinker_rl.lineup import model_path

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make vllm)"),
]


class Answers:
    """Takes answers, and counts them."""

    def __init__(self):
        self.times, self.answers = Counter(), {}

    def __call__(self, job_id, answer):
        self.times[job_id] += 1
        self.answers[job_id] = answer

    async def wait_for(self, ids, seconds=300):
        with anyio.fail_after(seconds):
            while not set(ids) <= set(self.answers):  # noqa: ASYNC110
                await anyio.sleep(0.05)

    def tokens(self, ids):
        return [[s.tokens for s in self.answers[i].sequences] for i in ids]


def make(finish, model=None, **options):
    config = VllmSamplerConfig(kv_cache_gb=0.1, **options)
    return VllmSampler(model or model_path("tiny"), 1024, "float32", True, config, finish)


def adapter(seed=0, rank=4):
    """Random weights on two layers of `tiny`."""
    from safetensors import safe_open

    with safe_open(Path(model_path("tiny")) / "model.safetensors", "pt") as file:
        shapes = {
            name.removesuffix(".weight"): file.get_slice(name).get_shape()
            for name in file.keys()  # noqa: SIM118
            if "q_proj" in name or "down_proj" in name
        }
    torch.manual_seed(seed)
    tensors = {}
    for name, (outputs, inputs) in shapes.items():
        path = f"base_model.model.{name}"
        tensors[f"{path}.lora_A.weight"] = torch.randn(rank, inputs) * 0.1
        tensors[f"{path}.lora_B.weight"] = torch.randn(outputs, rank) * 0.1
    return AdapterWeights(tensors, 2.0, content_hash(tensors))


async def alive(sampler, seconds=120):
    """Until there is an engine; its processes."""
    with anyio.fail_after(seconds):
        while not sampler.pids:  # noqa: ASYNC110
            await anyio.sleep(0.05)
    return sampler.pids


def of_engine(pids):
    """The process that speaks with us, and the one that decides what is computed."""
    named = {psutil.Process(pid).name(): pid for pid in pids[1:]}
    core = next((pid for name, pid in named.items() if "EngineCor" in name), pids[1])
    return {"speaker": pids[0], "core": core, "worker": pids[-1]}


def test_requests_survive_engines_that_are_killed_and_stopped(make_job):
    """Hundreds of requests of two versions; three engines are lost on the way."""
    answers = Answers()
    rng = random.Random(1)

    async def main():
        sampler = make(answers)
        weights = adapter()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            assert await sampler.load("v", weights) == weights.content_hash

            def jobs(first):
                return [
                    make_job(
                        first + i,
                        prompt=tuple(range(3, 10 + i % 30)),
                        version="v" if i % 2 else "",
                        max_tokens=20 + i % 60,
                        num_samples=1 + i % 2,
                        seed=i,
                    )
                    for i in range(240)
                ]

            for job in jobs(1000):  # undisturbed
                sampler.start(job)
            await answers.wait_for(range(1000, 1240))

            lost = []
            for job in jobs(2000):
                sampler.start(job)
            for number, who in (
                (signal.SIGKILL, "core"),
                (signal.SIGSTOP, "worker"),
                (signal.SIGKILL, "speaker"),
            ):
                pids = await alive(sampler)
                await anyio.sleep(rng.uniform(0, 0.5))
                began = time.monotonic()
                os.kill(of_engine(pids)[who], number)
                while sampler.pids == pids and time.monotonic() - began < 30:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
                lost.append(time.monotonic() - began)
                assert sampler.pids != pids
            await answers.wait_for(range(2000, 2240))
            await anyio.sleep(0.2)
            assert max(lost) < 10, lost  # noticed within seconds
            held = sampler.pids
            tasks.cancel_scope.cancel()
        return held

    held = anyio.run(main, backend="trio")
    assert set(answers.times.values()) == {1}
    assert answers.tokens(range(2000, 2240)) == answers.tokens(range(1000, 1240))
    end = time.monotonic() + 5
    while any(map(psutil.pid_exists, held)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, held))


def test_an_engine_that_cannot_start_again_is_an_error_and_a_later_request_begins_anew(
    make_job, tmp_path
):
    answers = Answers()
    folder = tmp_path / "model"

    async def main():
        folder.symlink_to(model_path("tiny"))
        sampler = make(answers, str(folder))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            sampler.start(make_job(1, max_tokens=4))
            await answers.wait_for([1])
            sampler.start(make_job(2, max_tokens=1000, num_samples=64))
            pids = await alive(sampler)
            folder.unlink()
            os.kill(pids[0], signal.SIGKILL)
            await answers.wait_for([2], 240)
            folder.symlink_to(model_path("tiny"))
            sampler.start(make_job(3, max_tokens=4, seed=1))
            await answers.wait_for([3])
            tasks.cancel_scope.cancel()

    anyio.run(main, backend="trio")
    error = answers.answers[2]
    assert isinstance(error, SamplerError)
    assert "got 4 in a row that failed" in str(error)
    assert "The end of its log" in str(error)
    assert answers.tokens([3]) == answers.tokens([1])


def test_interrupts_are_heeded_by_engines_that_start_and_by_those_that_die(make_job):
    answers = Answers()

    async def main():
        sampler = make(answers)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            sampler.start(make_job(1, num_samples=2))
            sampler.interrupt(1)  # before there is an engine
            assert answers.tokens([1]) == [[[], []]]
            sampler.start(make_job(2, max_tokens=900, num_samples=8))
            for pid in await alive(sampler):
                os.kill(pid, signal.SIGSTOP)  # it does not hear of it, and is replaced
            sampler.interrupt(2)
            sampler.interrupt(2)
            sampler.start(make_job(3))
            await answers.wait_for([2, 3])
            tasks.cancel_scope.cancel()

    anyio.run(main, backend="trio")
    assert answers.tokens([2]) == [[[]] * 8]
    assert {s.stop_reason for s in answers.answers[2].sequences} == {"interrupted"}
    assert len(answers.tokens([3])[0][0]) == 8
    assert set(answers.times.values()) == {1}


def test_a_request_that_takes_too_long_is_told_so(make_job):
    answers = Answers()

    async def main():
        sampler = make(answers, sample_seconds=0.5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            sampler.start(make_job(1))  # the engine alone takes longer to start
            await answers.wait_for([1], 20)
            tasks.cancel_scope.cancel()

    anyio.run(main, backend="trio")
    assert isinstance(answers.answers[1], SamplerError)
    assert "sample_seconds" in str(answers.answers[1])


def test_publishes_leak_neither_disk_nor_memory(make_job):
    answers = Answers()
    many = 300

    async def main():
        sampler = make(answers)
        sizes = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            for number in range(many):
                weights = adapter(seed=number, rank=2)
                await sampler.load(weights.version, weights)
                job = make_job(number, version=weights.version, max_tokens=2)
                sampler.start(job)
                sampler.unload(weights.version)  # while the job is on its way
                await answers.wait_for([number])
                if number % 100 == 99:
                    sizes.append(sum(psutil.Process(p).memory_info().rss for p in sampler.pids))
            roots = sampler._open_folders().roots
            left = [path for root in roots for path in root.iterdir()]
            assert len(left) <= 1
            tasks.cancel_scope.cancel()
        assert not any(root.exists() for root in roots)
        return sizes

    sizes = anyio.run(main, backend="trio")
    assert all(len(answer.sequences) == 1 for answer in answers.answers.values())
    assert sizes[-1] - sizes[0] < 30e6, sizes


def test_a_greater_rank_rebuilds_the_engine_and_requests_go_on(make_job):
    answers = Answers()

    async def main():
        sampler = make(answers, max_lora_rank=None)
        small, large = adapter(rank=4), adapter(seed=1, rank=40)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            await sampler.load("small", small)
            sampler.start(make_job(1, version="small", max_tokens=30))
            await answers.wait_for([1])
            sampler.start(make_job(2, version="small", max_tokens=500, seed=1, num_samples=8))
            await sampler.load("large", large)
            sampler.start(make_job(3, version="large"))
            await answers.wait_for([2, 3])
            tasks.cancel_scope.cancel()

    anyio.run(main, backend="trio")
    first = answers.tokens([1])[0][0]
    again = answers.tokens([2])[0][0]
    assert again[: len(first)] == first
    assert len(answers.tokens([3])[0][0]) == 8


def test_weights_that_are_lost_in_a_restart_are_an_error_and_the_base_model_serves_on(make_job):
    answers = Answers()

    async def main():
        sampler = make(answers)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            await sampler.load("v", adapter())
            for root in sampler._open_folders().roots:
                for folder in root.iterdir():
                    shutil.rmtree(folder)
            sampler.start(make_job(1, version="v", max_tokens=900, num_samples=32))
            os.kill(sampler.pids[0], signal.SIGKILL)
            await answers.wait_for([1])
            sampler.start(make_job(2))
            await answers.wait_for([2])
            with pytest.raises(WeightSyncError, match="to load version"):
                sampler.start(make_job(3, version="v"))
            tasks.cancel_scope.cancel()

    anyio.run(main, backend="trio")
    assert isinstance(answers.answers[1], WeightSyncError)
    assert len(answers.tokens([2])[0][0]) == 8


# ---------------------------------------------------------------------------- nothing left behind

PROGRAM = """
import os, sys, threading, time
import psutil
from tinker_rl import ModelInput, SamplingParams, ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig

how = sys.argv[1]
service = ServiceClient(engine_options=EngineOptions(sampler=VllmSamplerConfig(kv_cache_gb=0.1)))
if how == "starting":
    threading.Timer(6, lambda: print("ready", flush=True)).start()
sampling = service.create_sampling_client(base_model="tiny")
params = SamplingParams(max_tokens=400, stop=[])
sampling.sample(ModelInput.from_ints([1, 2, 3]), 1, SamplingParams(max_tokens=1)).result()
futures = [sampling.sample(ModelInput.from_ints([1, 2, 3]), 4, params) for _ in range(20)]
print("ready", flush=True)
if how == "success":
    futures[0].result()
elif how == "exception":
    raise KeyError("a fault of the program")
else:
    [future.result() for future in futures]
"""


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("success", None),
        ("exception", None),
        ("killed", signal.SIGKILL),
        ("interrupted", signal.SIGINT),
        ("starting", signal.SIGINT),
    ],
)
def test_no_process_and_no_file_is_left_behind(tmp_path, how, number):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    places = [Path("/dev/shm"), tmp_path / "tmp"]
    places[1].mkdir()
    before = ours(places)
    environment = {**os.environ, "TMPDIR": str(places[1])}
    process = subprocess.Popen(
        [sys.executable, script, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        if number is not None:
            process.send_signal(number)
        began = time.monotonic()
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    if how != "success":
        assert time.monotonic() - began < 20
    assert (process.returncode == 0) == (how == "success")
    _, still = psutil.wait_procs(family, timeout=10)
    assert not still
    assert np.array_equal(ours(places), before)


def ours(places):
    names = ("tinker_rl-*", "psm_*", "sem.mp-*", "????????-????-????-*")
    return sorted(path.name for place in places for name in names for path in place.glob(name))
