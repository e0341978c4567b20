"""Peak memory of one training step, each side in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bare_loop import LEARNING_RATE, BareLoop
from models import SHAPES
from workloads import group

from tinker_rl import AdamParams, Datum, ModelInput, ServiceClient

TOUCH = Datum(ModelInput.from_ints(range(8)), {"target_tokens": range(8)})
"""Reads all weights once, so that they are resident; `BareLoop.touch` does the same."""


def growth_mb(step: Callable[[], object]) -> float:
    """Greatest memory during `step` above what was held before it, in 1e6 bytes.

    Of the GPU if there is one, else what is resident of this process: Linux keeps the greatest
    value itself, and forgets it on request, so no peak is missed and loading does not count.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    if not sys.platform.startswith("linux"):
        raise SystemExit("memory: expected Linux, for /proc; leave `memory` out of --parts.")
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that is still resident would hide growth
    Path("/proc/self/clear_refs").write_text("5")  # see proc(5): resets VmHWM
    before = _status_mb("VmRSS")
    step()
    return _status_mb("VmHWM") - before


def _status_mb(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024 / 1e6


def measure(side: str, base_model: str) -> None:
    """Take one step on 4 answers to a prompt, as `ours` or `bare`, and print its memory as JSON."""
    work = group(SHAPES["wide"]["vocab_size"], np.random.default_rng(0), groups=1, answers=4)
    if side == "bare":
        loop = BareLoop(base_model, work)
        loop.touch()
        megabytes = growth_mb(loop.step)
    else:
        with ServiceClient() as service:
            client = service.create_lora_training_client(base_model, rank=32, seed=0)
            client.forward([TOUCH], "cross_entropy").result()

            def step() -> None:
                fwdbwd = client.forward_backward(work.data, work.loss_fn)
                optim = client.optim_step(AdamParams(learning_rate=LEARNING_RATE))
                fwdbwd.result(), optim.result()

            megabytes = growth_mb(step)
    print(json.dumps(megabytes))


def in_process_of_its_own(script: str, side: str, base_model: str) -> float:
    """What `measure` gives in a new process of `script`, in 1e6 bytes."""
    command = [sys.executable, script, "--memory-of", side, "--models", base_model]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"memory of {side}: expected exit status 0; got {done.returncode}.")
    return float(json.loads(done.stdout.splitlines()[-1]))
