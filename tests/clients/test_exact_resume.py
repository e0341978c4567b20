"""Going on from a checkpoint in a new process gives the bits of a run that never stopped."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, json, sys
import numpy as np
import torch
torch.set_num_threads(1)
from tinker_rl import AdamParams, Datum, ModelInput, ServiceClient

path, first, last, save_at, unstepped, optimizer = json.loads(sys.argv[1])

def data(step):
    rng = np.random.default_rng(step)
    prompt = rng.integers(0, 1000, 12).tolist()
    rows = [prompt + rng.integers(0, 1000, rng.integers(4, 20)).tolist() for _ in range(6)]
    return [Datum(ModelInput.from_ints(r[:-1]), {"target_tokens": r[1:]}) for r in rows]

with ServiceClient() as service:
    if path is None:
        client = service.create_lora_training_client("tiny", rank=8, seed=3)
    elif optimizer:
        client = service.create_training_client_from_state_with_optimizer(path)
    else:
        client = service.create_training_client_from_state(path)
    pending = path is not None and unstepped
    for step in range(first, last):
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
    file = client.save_weights_for_sampler("end").result().path
    outputs = client.forward(data(999), "cross_entropy").result().loss_fn_outputs
    bits = b"".join(out["logprobs"].to_numpy().tobytes() for out in outputs)
    from safetensors.numpy import load_file
    from tinker_rl.engine.checkpoints import default_root
    run, kind, name = file.removeprefix("tinker://").split("/")
    tensors = load_file(default_root() / "runs" / run / kind / name / "adapter_model.safetensors")
    for key in sorted(tensors):
        bits += tensors[key].tobytes()
    print(json.dumps({"hash": hashlib.sha256(bits).hexdigest(), "path": path}))
"""


def run(home, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)],
        env={**os.environ, "TINKER_RL_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("unstepped", [False, True])
def test_a_new_process_goes_on_bit_for_bit(tmp_path, unstepped):
    """After a step, or with a gradient that no step has used yet, which the checkpoint keeps."""
    unbroken = run(tmp_path, None, 0, 5, 2, unstepped, True)
    start = 2 if unstepped else 3
    resumed = run(tmp_path, unbroken["path"], start, 5, -1, unstepped, True)
    assert resumed["hash"] == unbroken["hash"]
    if not unstepped:
        fresh = run(tmp_path, unbroken["path"], start, 5, -1, unstepped, False)
        assert fresh["hash"] != unbroken["hash"]  # its moments began anew
