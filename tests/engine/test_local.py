"""The life of an engine in a process: scripts that end, with or without closing anything."""

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

import tinker_rl
from tinker_rl import Datum, LoraConfig, ModelInput, SamplingParams
from tinker_rl.engine.local import EngineOptions, LocalBackend
from tinker_rl.errors import EngineClosedError, UnknownNameError
from tinker_rl.requests import (
    CreateModel,
    CreateSampler,
    ForwardBackward,
    GetInfo,
    GetServerCapabilities,
    ListTrainingRuns,
    Sample,
)

START = """
import sys, threading
from tinker_rl import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient
service = ServiceClient()
training = service.create_lora_training_client("tiny", rank=4)
sampling = training.save_weights_and_get_sampling_client()
data = [Datum(ModelInput.from_ints([1] * 500), {"target_tokens": [2] * 500})] * 60
prompt, long = ModelInput.from_ints([1, 2]), SamplingParams(max_tokens=1000, stop=[])
def begin():
    futures = [training.forward_backward(data, "cross_entropy") for _ in range(20)]
    futures += [sampling.sample(prompt, 200, long) for _ in range(20)]
    return futures
def ready():
    print("ready", flush=True)
input()
"""
SCRIPTS = {
    "never closes": """
training.forward_backward(data[:1], "cross_entropy").result()
print(training.optim_step().result().metrics["grad_norm:mean"] >= 0)
ready()
""",
    "is in the middle of work": """
begin()
training.save_state("left").result
ready()
""",
    "is interrupted while it waits": """
futures = begin()
ready()
futures[-1].result()
""",
}


FORKS = """
import json, os, sys
import tinker_rl.engine.local
scripts = json.loads(sys.argv[1])
children = []
for script, ends in scripts:
    child = os.fork()
    if child == 0:
        break
    children.append(child)
for standard, end in enumerate(ends if child == 0 else ()):
    os.dup2(end, standard)
for _, ends in scripts:
    for end in ends:
        os.close(end)
if child == 0:
    exec(script)
else:
    print(*children, flush=True)
    for child in children:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs each script in a process of its own, which has imported torch before it began.

Its argument has the scripts, each with its standard input, output and error; it prints the ids of
their processes, and then the exit code of each.
"""


def heed_interrupts():
    """A shell makes what it starts in the background ignore them, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def endings(tmp_path_factory):
    """(seconds from ready to the end, exit code, error output) of each script.

    They are forked from one process, since importing torch takes long, and end one after the other.
    """
    home = tmp_path_factory.mktemp("home")
    inputs, outputs, error_files, theirs = [], [], [], []
    for number in range(len(SCRIPTS)):
        (their_input, ours), (output, their_output) = os.pipe(), os.pipe()
        error_files.append(home / f"{number}.txt")
        their_error = os.open(error_files[-1], os.O_WRONLY | os.O_CREAT)
        inputs.append(os.fdopen(ours, "w"))
        outputs.append(os.fdopen(output))
        theirs.append((their_input, their_output, their_error))
    scripts = [START + script for script in SCRIPTS.values()]
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS, json.dumps(list(zip(scripts, theirs, strict=True)))],
        cwd=Path(tinker_rl.__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TINKER_RL_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
        pass_fds=[end for ends in theirs for end in ends],
    )
    for ends in theirs:
        for end in ends:
            os.close(end)
    found = {}
    children = [int(child) for child in process.stdout.readline().split()]
    for name, child, send, said, error_file in zip(
        SCRIPTS, children, inputs, outputs, error_files, strict=True
    ):
        with send, said:
            send.write("\n")
            send.flush()
            while said.readline() not in ("ready\n", ""):
                pass
            if "interrupted" in name:
                time.sleep(0.3)
                os.kill(child, signal.SIGINT)
            started = time.monotonic()
            kill = threading.Timer(30, os.kill, (child, signal.SIGKILL))
            kill.start()
            code = int(process.stdout.readline())
            kill.cancel()
            found[name] = (time.monotonic() - started, code, error_file.read_text())
    with process:
        assert process.wait(30) == 0
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_ends_by_itself(endings, name):
    seconds, code, errors = endings[name]
    assert seconds < 20, errors  # all of the work would take minutes
    if "interrupted" in name:
        assert code in (1, 130, -signal.SIGINT)
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert errors.count("Traceback (most recent call last)") == 1
        assert "in thread" not in errors.lower()
        assert "tinker_rl/engine" not in errors
    else:
        assert code == 0
        assert errors == ""


# --------------------------------------------------------------------------- without a process


@pytest.fixture
def backend_of_its_own(tmp_path):
    backend = LocalBackend(EngineOptions(home=str(tmp_path)))
    yield backend
    backend.close()


def engine_threads():
    return {t for t in threading.enumerate() if t.name.startswith("tinker-")}


def test_closing_joins_the_threads_and_may_be_done_twice(tmp_path):
    before = engine_threads()
    backend = LocalBackend(EngineOptions(home=str(tmp_path)))
    backend.submit(ListTrainingRuns()).result(10)
    assert len(engine_threads() - before) == 2  # the loop's and the device's
    backend.close()
    backend.close()
    assert backend.closed
    assert engine_threads() == before
    with pytest.raises(EngineClosedError):
        backend.submit(GetServerCapabilities()).result(5)


def test_many_threads_may_close_and_ask_at_once(tmp_path):
    backend = LocalBackend(EngineOptions(home=str(tmp_path)))
    answers = []

    def ask():
        for _ in range(50):
            try:
                answers.append(backend.submit(ListTrainingRuns()).result(10))
            except EngineClosedError as error:
                answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    closers = [threading.Thread(target=backend.close) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    for thread in closers:
        thread.start()
    for thread in threads + closers:
        thread.join(20)
        assert not thread.is_alive()
    assert len(answers) == 200  # each was answered, one way or the other


def test_closing_from_within_the_engine_does_not_hang(tmp_path):
    backend = LocalBackend(EngineOptions(home=str(tmp_path)))
    future = backend.submit(ListTrainingRuns())
    closed = threading.Event()

    def close(_):
        backend.close()  # in the engine's own thread
        closed.set()

    future.future().add_done_callback(close)
    assert closed.wait(10)
    backend.close()
    assert not backend._thread.is_alive()


def test_nothing_is_kept_of_what_was_answered(backend_of_its_own):
    for _ in range(20):
        backend_of_its_own.submit(ListTrainingRuns()).result(10)
    with pytest.raises(UnknownNameError):
        backend_of_its_own.submit(GetInfo(model_id="nobody")).result(10)
    assert not backend_of_its_own._open
    assert not backend_of_its_own._inbox


def test_a_cancelled_sample_is_forgotten_too(service):
    backend = service._backend
    info = backend.submit(CreateSampler(base_model="tiny")).result()
    future = backend.submit(
        Sample(
            sampler_id=info.sampler_id,
            prompt=ModelInput.from_ints([1]),
            num_samples=1,
            sampling_params=SamplingParams(max_tokens=1000, stop=[]),
        )
    )
    with pytest.raises(TimeoutError):
        anyio.run(future.result_async, 0.01)
    with pytest.raises(ValueError, match="given up"):
        future.result(10)
    for _ in range(50):
        if not backend._open:
            break
        time.sleep(0.02)
    assert not backend._open


def test_an_engine_that_cannot_start_says_why(tmp_path, monkeypatch):
    def fail(device):
        raise RuntimeError("no device")

    monkeypatch.setattr("tinker_rl.engine.local.DeviceThread", fail)
    backend = LocalBackend(EngineOptions(home=str(tmp_path)))
    with pytest.raises(EngineClosedError) as caught:
        backend.submit(ListTrainingRuns()).result(5)
    assert "no device" in repr(caught.value.__cause__)
    backend.close()


def test_pickling_says_why_not(backend_of_its_own):
    with pytest.raises(TypeError, match="cannot be pickled: the engine lives in this process"):
        pickle.dumps(backend_of_its_own)


def test_a_client_that_is_collected_while_the_engine_is_busy_does_no_harm(service):
    for _ in range(5):
        client = service.create_sampling_client(base_model="tiny")
        cycle = [client]
        cycle.append(cycle)  # only the garbage collector finds it, in whatever thread
        del client, cycle
    gc.collect()
    assert service.create_sampling_client(base_model="tiny").get_base_model() == "tiny"


def test_the_end_waits_for_what_torch_is_doing_and_close_does_not(tmp_path, monkeypatch):
    """A thread that the interpreter's end finds inside torch aborts the process."""
    monkeypatch.setattr("tinker_rl.engine.local._CLOSE_SECONDS", 0.1)
    backend = LocalBackend(EngineOptions(home=str(tmp_path)))
    going_on, in_torch = threading.Event(), threading.Event()

    def slow_loss(data, logprobs):
        in_torch.set()
        going_on.wait(20)
        return logprobs[0].sum(), {}

    info = backend.submit(CreateModel(base_model="tiny", lora_config=LoraConfig(rank=2))).result()
    config = {"loss_id": backend.add_loss(slow_loss)}
    data = [Datum(ModelInput.from_ints([1]), {"target_tokens": [2]})]
    future = backend.submit(
        ForwardBackward(model_id=info.model_id, data=data, loss_fn="custom", loss_fn_config=config)
    )
    assert in_torch.wait(10)
    backend.close()  # returns all the same
    ending = threading.Thread(target=backend._end)
    ending.start()
    ending.join(0.5)
    assert ending.is_alive()
    going_on.set()
    ending.join(10)
    assert not ending.is_alive()
    with pytest.raises(EngineClosedError):
        future.result(5)
