"""Where a model would come from, and its dimensions, with nothing downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import msgspec

from tinker_rl.architectures import ARCHITECTURES, Architecture, get_architecture
from tinker_rl.cli.machine import Disk, read_disk
from tinker_rl.errors import UnknownNameError
from tinker_rl.hub import hub_problem
from tinker_rl.lineup import find_model, model_path

__all__ = ["ModelSource", "find_source", "known_architecture"]

_DEFAULT_CONTEXT = 2048


class ModelSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model would be loaded from."""

    kind: Literal["package", "folder", "cache", "download"]
    place: str
    download_bytes: int = 0
    """In bfloat16, as the lineup lies on the hub."""
    disk: Disk | None = None
    """Of the hub's cache, if it would be downloaded."""
    problem: str | None = None
    """Why it cannot be had here."""


def known_architecture(model_name: str) -> tuple[Architecture, int]:
    """Dimensions and context: by heart, or from a configuration on this machine.

    Raises:
        UnknownNameError: if the configuration is not on this machine.
        UnsupportedError: if models of its type cannot be counted.
    """
    entry = find_model(model_name)
    if entry is not None:
        return ARCHITECTURES[model_name], entry.context
    folder = _folder(model_name) or _cached(model_name)
    if folder is None:
        model_path_problem = "neither in the lineup, nor a folder, nor in the hub's cache"
        raise UnknownNameError(
            f"model_name: expected a model whose configuration is on this machine; got "
            f"{model_name!r}, {model_path_problem}. Pass a name of the lineup or a folder, or "
            f"fetch it: hf download {model_name} config.json"
        )
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    return get_architecture(str(folder)), text.get("max_position_embeddings", _DEFAULT_CONTEXT)


def find_source(model_name: str, model: Architecture) -> ModelSource:
    """Where it is, or would come from. Opens one connection, to see that the hub is there."""
    from huggingface_hub import constants

    if model_name == "tiny":
        return ModelSource(kind="package", place=model_path(model_name))
    folder = _folder(model_name)
    if folder is not None:
        return ModelSource(kind="folder", place=str(folder))
    cached = _cached(model_name)
    if cached is not None and _has_weights(cached):
        return ModelSource(kind="cache", place=str(cached))
    size = 2 * model.total_parameters
    disk = read_disk(Path(constants.HF_HUB_CACHE))
    problem = hub_problem(model_name)
    if problem is None and disk.free_bytes < size:
        problem = f"{disk.path} has {disk.free_bytes / 1e9:.1f} GB free"
    return ModelSource(
        kind="download", place=model_name, download_bytes=size, disk=disk, problem=problem
    )


def _folder(model_name: str) -> Path | None:
    folder = Path(model_name)
    try:
        return folder.resolve() if (folder / "config.json").is_file() else None
    except OSError:  # too long for a path
        return None


def _cached(model_name: str) -> Path | None:
    """The snapshot in the hub's cache that has the configuration."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model_name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _has_weights(snapshot: Path) -> bool:
    """Whether all files with weights are there: a download may have been broken off."""
    index = snapshot / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text())["weight_map"].values())
        return all((snapshot / name).is_file() for name in names)
    return (snapshot / "model.safetensors").is_file()
