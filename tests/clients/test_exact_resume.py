"""Going on from a checkpoint in a new process gives the bits of a run that never stopped."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tinker_rl import AdamParams, Datum, ModelInput, ServiceClient
from tinker_rl.engine.checkpoints import default_root
from tinker_rl.engine.local import EngineOptions

LAST = 5
"""Steps of a run."""


def data(step):
    rng = np.random.default_rng(step)
    prompt = rng.integers(0, 1000, 12).tolist()
    rows = [prompt + rng.integers(0, 1000, rng.integers(4, 20)).tolist() for _ in range(6)]
    return [Datum(ModelInput.from_ints(r[:-1]), {"target_tokens": r[1:]}) for r in rows]


def train(client, first, save_at=None, unstepped=False, pending=False):
    """Do the steps from `first` on, two requests each; gives the path of what was saved.

    Saved is after the step `save_at`, or, with `unstepped`, between its requests. `pending`: the
    first request of the first step was done before.
    """
    path = None
    for step in range(first, LAST):
        if not pending:
            client.forward_backward(data(step), "cross_entropy")
        if step == save_at and unstepped:
            path = client.save_state("middle").result().path
        client.forward_backward(data(step + 100), "cross_entropy")
        options = AdamParams(learning_rate=1e-3, weight_decay=0.01, grad_clip_norm=1.0)
        client.optim_step(options).result()
        pending = False
        if step == save_at and not unstepped:
            path = client.save_state("middle").result().path
    return path


def bits_hash(client, root):
    """Of logprobs and adapter."""
    file = client.save_weights_for_sampler("end").result().path
    outputs = client.forward(data(999), "cross_entropy").result().loss_fn_outputs
    bits = b"".join(out["logprobs"].to_numpy().tobytes() for out in outputs)
    run, kind, name = file.removeprefix("tinker://").split("/")
    tensors = load_file(root / "runs" / run / kind / name / "adapter_model.safetensors")
    for key in sorted(tensors):
        bits += tensors[key].tobytes()
    return hashlib.sha256(bits).hexdigest()


def resume(stepped, unstepped):
    """Go on from both checkpoints, and from one without its optimiser."""
    with ServiceClient(engine_options=EngineOptions(threads=1)) as service:
        exact, fresh = (
            service.create_training_client_from_state_with_optimizer,
            service.create_training_client_from_state,
        )
        hashes = {}
        for name, create, path, first in (
            ("unstepped", exact, unstepped, 2),
            ("stepped", exact, stepped, 3),
            ("fresh", fresh, stepped, 3),
        ):
            client = create(path)
            train(client, first, pending=name == "unstepped")
            hashes[name] = bits_hash(client, default_root())
    return hashes


@pytest.fixture(scope="module")
def hashes(tmp_path_factory):
    """Of runs that never stopped, in this process, and of those that went on in a new one."""
    home = tmp_path_factory.mktemp("home")
    unbroken, paths = {}, {}
    with ServiceClient(engine_options=EngineOptions(home=str(home), threads=1)) as service:
        for name in ("stepped", "unstepped"):
            client = service.create_lora_training_client("tiny", rank=8, seed=3)
            paths[name] = train(client, 0, save_at=2, unstepped=name == "unstepped")
            unbroken[name] = bits_hash(client, home)
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(paths)],
        env={**os.environ, "TINKER_RL_HOME": str(home)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return unbroken, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["stepped", "unstepped"])
def test_a_new_process_goes_on_bit_for_bit(hashes, name):
    """After a step, or with a gradient that no step has used yet, which the checkpoint keeps."""
    unbroken, resumed = hashes
    assert resumed[name] == unbroken[name]


def test_moments_that_begin_anew_give_other_bits(hashes):
    unbroken, resumed = hashes
    assert resumed["fresh"] != unbroken["stepped"]


if __name__ == "__main__":
    print(json.dumps(resume(**json.loads(sys.argv[1]))))
