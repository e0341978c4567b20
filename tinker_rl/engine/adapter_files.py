"""An adapter as files: a peft adapter folder, and the optimiser beside it."""

from __future__ import annotations

import copy
import errno
import re
from collections.abc import Mapping
from pathlib import Path

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tinker_rl.engine.learner import Adapter, Learner
from tinker_rl.errors import CheckpointError

__all__ = [
    "OptimizerState",
    "load_checkpoint",
    "optimizer_state",
    "read_adapter",
    "write_adapter",
    "write_optimizer",
]

_ADAPTER = "adapter_model.safetensors"
_OPTIMIZER = "optimizer.safetensors"

OptimizerState = dict[str, Tensor]
"""`exp_avg.<param>`, `exp_avg_sq.<param>`, `step.<param>`, and `gradient.<param>` for a sum that
no step has used yet. A parameter is called as in a peft adapter file, without the adapter's name,
so that another adapter can take the state over."""

_FIELDS = ("step", "exp_avg", "exp_avg_sq", "gradient")


def write_adapter(
    folder: Path, weights: Mapping[str, Tensor], config: peft.LoraConfig, base_model: str
) -> None:
    """Write a folder that peft, transformers and vLLM load as it is."""
    _save({name: tensor.cpu() for name, tensor in weights.items()}, folder / _ADAPTER)
    config = copy.copy(config)
    config.inference_mode = True
    config.base_model_name_or_path = base_model
    config.save_pretrained(str(folder))


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """The tensors of a peft adapter folder.

    Raises:
        CheckpointError: if there are none, or they cannot be read.
    """
    try:
        return load_file(folder / _ADAPTER)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: expected an {_ADAPTER} that can be read; got {error}."
        ) from error


def optimizer_state(adapter: Adapter) -> OptimizerState:
    """A copy of the moments, step counts, and gradients that wait for a step."""
    state: OptimizerState = {}
    for name, parameter in adapter.params.items():
        key = _without_adapter(name, adapter)
        for field, value in adapter.optimizer.state.get(parameter, {}).items():
            state[f"{field}.{key}"] = value.detach().clone().cpu()
        if name in adapter.gradients:
            state[f"gradient.{key}"] = adapter.gradients[name].clone().cpu()
    return state


def _without_adapter(name: str, adapter: Adapter) -> str:
    return name.replace(f".{adapter.name}.", ".")


def write_optimizer(folder: Path, state: OptimizerState) -> None:
    """Write what `optimizer_state` gave."""
    _save(state or {"empty": torch.zeros(0)}, folder / _OPTIMIZER)


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    try:
        save_file(tensors, file)
    except SafetensorError as error:  # a full disk too: it tells the number in words only
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def load_checkpoint(
    learner: Learner, name: str, folder: Path, *, optimizer: bool, steps: int
) -> None:
    """Make the adapter `name` the one in `folder`; nothing is changed when this raises.

    Without `optimizer` its moments and step count start afresh.
    """
    adapter = learner.adapter(name)
    weights = read_adapter(folder)
    own = learner.weights(name)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in weights.items()}:
        raise CheckpointError(
            f"load_state: expected an adapter of {len(own)} tensors of rank {adapter.config.rank} "
            f"with the same targets; got {len(weights)} tensors of other names or shapes. Create "
            "the client from the checkpoint instead (create_training_client_from_state)."
        )
    saved = _read_optimizer(folder, adapter) if optimizer else {}
    learner.load_weights(name, weights)
    adapter.optimizer.state.clear()
    adapter.steps = steps if optimizer else 0
    for param, parameter in adapter.params.items():
        key = _without_adapter(param, adapter)
        found = {
            field: saved[f"{field}.{key}"].to(parameter.device, copy=True)  # the file is mapped
            for field in _FIELDS
            if f"{field}.{key}" in saved
        }
        gradient = found.pop("gradient", None)
        if found:
            adapter.optimizer.state[parameter] = found
        if gradient is not None:
            adapter.gradients[param] = gradient


def _read_optimizer(folder: Path, adapter: Adapter) -> OptimizerState:
    if not (folder / _OPTIMIZER).is_file():
        raise CheckpointError(
            f"load_state_with_optimizer: expected {_OPTIMIZER} in the checkpoint; got sampler "
            "weights. Load a tinker://<run>/weights/<name> path, or use load_state."
        )
    try:
        saved = load_file(folder / _OPTIMIZER)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: expected an {_OPTIMIZER} that can be read; got {error}."
        ) from error
    saved.pop("empty", None)
    known = {
        f"{field}.{_without_adapter(name, adapter)}" for name in adapter.params for field in _FIELDS
    }
    unknown = sorted(set(saved) - known)
    if unknown:
        raise CheckpointError(
            f"load_state_with_optimizer: expected the optimiser of this adapter; got {unknown[0]!r}"
            f", which it does not have ({folder}). Use load_state, which takes the weights alone."
        )
    return saved
