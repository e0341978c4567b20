"""Engines that are killed, stopped or cannot start: every request is answered once, or told why."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import anyio
import psutil
import pytest
import torch
from anyio.from_thread import start_blocking_portal

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

    async def wait_for(self, ids):
        await until(lambda: set(ids) <= set(self.answers))

    def tokens(self, ids):
        return [[s.tokens for s in self.answers[i].sequences] for i in ids]


async def until(holds):
    with anyio.fail_after(400):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(0.02)


def make(finish, model, **options):
    config = VllmSamplerConfig(kv_cache_gb=0.1, **options)
    return VllmSampler(model, 1024, "float32", True, config, finish)


class Living:
    """One sampler for all tests here, as each engine takes half a minute to start.

    Each test disturbs the engine that it finds in its own way, and forgets its versions.
    """

    def __init__(self, folder):
        self.folder = folder
        self.answers = Answers()
        self._exits = ExitStack()
        self._portal = self._exits.enter_context(start_blocking_portal("trio"))
        self.sampler = self._portal.call(self._make)
        self._serving = self._portal.start_task_soon(self.sampler.serve)
        self._exits.callback(self._serving.cancel)

    async def _make(self):
        return make(
            lambda job_id, answer: self.answers(job_id, answer),
            str(self.folder),
            max_restarts=2,
            stall_seconds=120,  # a machine may be slow; what is stopped is noticed without it
        )

    def run(self, main):
        """Run what a test does, beside the sampler."""
        self.answers = Answers()
        try:
            self._portal.call(main, self.sampler, self.answers)
        finally:
            if self._serving.done():
                self._serving.result()
        assert set(self.answers.times.values()) == {1}

    def close(self):
        self._exits.close()


@pytest.fixture(scope="module")
def living(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults") / "model"
    folder.symlink_to(model_path("tiny"))
    living = Living(folder)
    yield living
    living.close()


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


async def alive(sampler):
    """Until there is an engine; its processes."""
    await until(lambda: sampler.pids)
    return sampler.pids


def of_engine(pids):
    """The process that speaks with us, and the one that decides what is computed."""
    named = {psutil.Process(pid).name(): pid for pid in pids[1:]}
    core = next((pid for name, pid in named.items() if "EngineCor" in name), pids[1])
    return {"speaker": pids[0], "core": core, "worker": pids[-1]}


def test_publishes_leak_neither_disk_nor_memory(living, make_job):
    many = 300

    async def main(sampler, answers):
        sizes = []
        roots = sampler._open_folders().roots
        for number in range(many):
            weights = adapter(seed=number, rank=2)
            await sampler.load(weights.version, weights)
            sampler.start(make_job(number, version=weights.version, max_tokens=2))
            sampler.unload(weights.version)  # while the job is on its way
            await answers.wait_for([number])
            if number % 100 == 99:
                sizes.append(sum(psutil.Process(p).memory_info().rss for p in sampler.pids))
        left = [path for root in roots for path in root.iterdir()]
        assert len(left) <= 1
        assert sizes[-1] - sizes[0] < 30e6, sizes

    living.run(main)
    assert all(len(answer.sequences) == 1 for answer in living.answers.answers.values())


def test_a_greater_rank_rebuilds_the_engine_and_requests_go_on(living, make_job):
    async def main(sampler, answers):
        small, large = adapter(rank=4), adapter(seed=1, rank=40)
        await sampler.load("small", small)
        sampler.start(make_job(1, version="small", max_tokens=30))
        await answers.wait_for([1])
        before = sampler.pids
        sampler.start(make_job(2, version="small", max_tokens=500, seed=1, num_samples=8))
        await sampler.load("large", large)
        assert not set(sampler.pids) & set(before)
        sampler.start(make_job(3, version="large"))
        await answers.wait_for([2, 3])
        for version in ("small", "large"):
            sampler.unload(version)

    living.run(main)
    first = living.answers.tokens([1])[0][0]
    again = living.answers.tokens([2])[0][0]
    assert again[: len(first)] == first
    assert len(living.answers.tokens([3])[0][0]) == 8


def test_requests_survive_engines_that_are_killed_and_stopped(living, make_job, caplog):
    """Hundreds of requests of two versions; three engines are lost on the way.

    The files of a third version are lost too: what was to be sampled from it is an error, and the
    others do not notice.
    """
    rng = random.Random(1)

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

    async def lose(sampler, number, who):
        pids = await alive(sampler)
        await anyio.sleep(rng.uniform(0, 0.5))
        os.kill(of_engine(pids)[who], number)
        await until(lambda: sampler.pids != pids)

    async def main(sampler, answers):
        for seed, version in enumerate(("v", "lost")):
            weights = adapter(seed)
            assert await sampler.load(version, weights) == weights.content_hash
        for job in jobs(1000):  # undisturbed
            sampler.start(job)
        await answers.wait_for(range(1000, 1240))

        for job in jobs(2000):
            sampler.start(job)
        await lose(sampler, signal.SIGKILL, "core")
        await lose(sampler, signal.SIGSTOP, "worker")
        num_answers = len(answers.answers)
        await until(lambda: len(answers.answers) > num_answers)  # which ends the losses in a row
        sampler.start(make_job(3000, version="lost", max_tokens=900, num_samples=32))
        shutil.rmtree(sampler._versions["lost"].load.folder)
        assert len(answers.answers) < 480
        await lose(sampler, signal.SIGKILL, "speaker")
        sampler.start(make_job(3001))
        await answers.wait_for([*range(2000, 2240), 3000, 3001])
        with pytest.raises(WeightSyncError, match="to load version"):
            sampler.start(make_job(3002, version="lost"))
        for version in ("v", "lost"):
            sampler.unload(version)

    living.run(main)
    answers = living.answers
    assert answers.tokens(range(2000, 2240)) == answers.tokens(range(1000, 1240))
    assert isinstance(answers.answers[3000], WeightSyncError)
    assert len(answers.tokens([3001])[0][0]) == 8
    restarts = [text for text in caplog.messages if text.startswith("vLLM is restarted")]
    reasons = ["its process has died", "its process was stopped", "its process has died"]
    assert [text.partition(": ")[2].partition(".")[0] for text in restarts] == reasons


def test_an_engine_that_cannot_start_again_is_an_error_and_a_later_request_begins_anew(
    living, make_job
):
    """What was interrupted, while an engine was stopped or before there was one, is no error."""

    async def main(sampler, answers):
        sampler.start(make_job(1, max_tokens=4))
        await answers.wait_for([1])
        sampler.start(make_job(2, max_tokens=1000, num_samples=64))
        sampler.start(make_job(3, max_tokens=900, num_samples=8))
        living.folder.unlink()
        try:
            for pid in await alive(sampler):
                os.kill(pid, signal.SIGSTOP)  # it does not hear of what follows, and is replaced
            sampler.interrupt(3)
            sampler.interrupt(3)
            await answers.wait_for([2, 3])
        finally:
            living.folder.symlink_to(model_path("tiny"))
        sampler.start(make_job(4, num_samples=2))
        sampler.interrupt(4)  # before there is an engine
        assert answers.tokens([4]) == [[[], []]]
        sampler.start(make_job(5, max_tokens=4, seed=1))
        await answers.wait_for([5])

    living.run(main)
    answers = living.answers
    error = answers.answers[2]
    assert isinstance(error, SamplerError)
    assert "got 3 in a row that failed" in str(error)
    assert "The end of its log" in str(error)
    assert answers.tokens([3]) == [[[]] * 8]
    assert {s.stop_reason for s in answers.answers[3].sequences} == {"interrupted"}
    assert answers.tokens([5]) == answers.tokens([1])


def test_a_sampler_that_is_closed_leaves_neither_processes_nor_files(living, make_job):
    """The last test that uses it."""
    held, roots = [], []

    async def main(sampler, answers):
        sampler.start(make_job(1))
        await answers.wait_for([1])
        held.extend(sampler.pids)
        roots.extend(sampler._open_folders().roots)

    living.run(main)
    assert all(root.exists() for root in roots)
    living.close()
    assert not any(root.exists() for root in roots)
    anyio.run(until, lambda: not any(map(psutil.pid_exists, held)))


def test_a_request_that_takes_too_long_is_told_so(make_job):
    answers = Answers()

    async def main():
        sampler = make(answers, model_path("tiny"), sample_seconds=0.5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sampler.serve)
            sampler.start(make_job(1))  # the engine alone takes longer to start
            await answers.wait_for([1])
            tasks.cancel_scope.cancel()

    anyio.run(main, backend="trio")
    assert isinstance(answers.answers[1], SamplerError)
    assert "sample_seconds" in str(answers.answers[1])


# ---------------------------------------------------------------------------- nothing left behind

PROGRAM = """
import sys, time
import psutil
from tinker_rl import ModelInput, SamplingParams, ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig

def ask(model, max_tokens, number=1):
    sampling = service.create_sampling_client(base_model=model)
    params = SamplingParams(max_tokens=max_tokens, stop=[])
    prompt = ModelInput.from_ints([1, 2, 3])
    return [sampling.sample(prompt, 4, params) for _ in range(number)]

def starting():
    for process in psutil.Process().children(recursive=True):
        if "tinker_rl.engine.samplers.vllm.worker" in process.cmdline()[-3:-1]:
            yield process

how, other = sys.argv[1:]
service = ServiceClient(engine_options=EngineOptions(sampler=VllmSamplerConfig(kv_cache_gb=0.1)))
futures = []
if how == "interrupted":
    ask("tiny", 1)[0].result()
    futures = ask("tiny", 400, 20)
before = {process.pid for process in starting()}
futures += ask(other, 1)
for _ in range(3000):
    if any(p.pid not in before and p.cpu_times().user > 3 for p in starting()):
        break
    time.sleep(0.1)
else:
    sys.exit("no engine starts")
print("ready", flush=True)
if how == "exception":
    raise KeyError("a fault of the program")
[future.result() for future in futures]
"""


@pytest.mark.parametrize(("how", "number"), [("exception", None), ("interrupted", signal.SIGINT)])
def test_no_process_and_no_file_is_left_behind(tmp_path, traces, how, number):
    """Of an engine that starts, alone or beside one that samples.

    How a program is killed, and how it ends while its engine has work: test_rl_basic_vllm.
    """
    script, other = tmp_path / "program.py", tmp_path / "other"
    script.write_text(PROGRAM)
    shutil.copytree(model_path("tiny"), other)
    process = subprocess.Popen(
        [sys.executable, script, how, other],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **traces.environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert traces.has_processes()
        if number is not None:
            process.send_signal(number)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert ("KeyError" if number is None else "KeyboardInterrupt") in said.splitlines()[-1]
    assert process.returncode == (1 if number is None else -number)
    traces.check()
