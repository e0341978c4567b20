"""Where adapters lie for vLLM to load: in shared memory when there is some."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from tinker_rl.engine.samplers.base import AdapterWeights

__all__ = ["AdapterFolders", "short_folder"]

_PREFIX = "tinker_rl-"
_SHARED_MEMORY = Path("/dev/shm")


class AdapterFolders:
    """The adapters of one engine: in shared memory, or on disk where that has no room."""

    def __init__(self, base_model: str) -> None:
        self._base_model = base_model
        self.roots: list[Path] = []
        """The folders they lie in, the better one first."""
        if _has_shared_memory():
            self.roots.append(_new_folder(_SHARED_MEMORY))
        self.roots.append(_new_folder())

    def write(self, name: str, weights: AdapterWeights) -> Path:
        """Write a peft adapter folder; what is there of that name is replaced.

        Raises:
            OSError: if there is no room.
        """
        tensors = {key: tensor.cpu() for key, tensor in weights.tensors.items()}
        size = sum(tensor.nbytes for tensor in tensors.values())
        folder = self._root(size) / name
        folder.mkdir(exist_ok=True)
        save_file(tensors, folder / "adapter_model.safetensors")
        modules = {key.partition(".lora_")[0].rpartition(".")[2] for key in tensors}
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self._base_model,
            "r": weights.rank,
            "lora_alpha": weights.scale * weights.rank,
            "target_modules": sorted(modules),
            "bias": "none",
        }
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    def _root(self, size: int) -> Path:
        """Where `size` bytes have room."""
        roomy = [root for root in self.roots if shutil.disk_usage(root).free > 2 * size]
        return roomy[0] if roomy else self.roots[-1]

    def remove(self, folder: Path) -> None:
        """Remove one adapter."""
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove them all."""
        for root in self.roots:
            shutil.rmtree(root, ignore_errors=True)


def short_folder() -> Path:
    """A new folder for sockets, whose paths have 107 bytes at most: not deep in a temporary one."""
    return _new_folder(_SHARED_MEMORY if _has_shared_memory() else None)


def _has_shared_memory() -> bool:
    return os.access(_SHARED_MEMORY, os.W_OK)


def _new_folder(place: Path | None = None) -> Path:
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
