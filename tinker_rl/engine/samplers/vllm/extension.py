"""What runs inside vLLM's own workers: it mends them, and tells which adapters they hold.

vLLM imports this module before a worker makes its model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tinker_rl.engine.content_hash import content_hash
from tinker_rl.engine.samplers.vllm import patches

__all__ = ["WorkerExtension"]

patches.install()


class WorkerExtension:
    """Mixed into vLLM's worker class, by its option `worker_extension_cls`."""

    model_runner: Any
    """vLLM's, which holds the adapters."""

    def tinker_adapter_hash(self, number: int, folder: str) -> str:
        """Content hash of adapter `number`, as the worker holds it in memory.

        vLLM renames, packs and scales what it loads, so the hash of the file is given if, and
        only if, each of the file's tensors, treated likewise, is found in memory bit for bit.

        Raises:
            ValueError: if one is not; the message names it.
        """
        from vllm.lora.peft_helper import PEFTHelper
        from vllm.lora.utils import parse_fine_tuned_lora_name

        manager = self.model_runner.lora_manager
        adapters = manager._adapter_manager
        held = adapters.get_adapter(number)
        if held is None:
            raise ValueError(f"expected adapter {number} in vLLM; got none")
        tensors = load_file(Path(folder) / "adapter_model.safetensors")
        helper = PEFTHelper.from_local_dir(folder, None)
        mapper = getattr(adapters.model, "hf_to_vllm_mapper", None)
        mapper = None if mapper is None else mapper.get_rename_mapper()
        parts = {
            part: (module, place)
            for module, packed in adapters.packed_modules.items()
            for place, part in enumerate(packed)
        }
        for name, tensor in tensors.items():
            module, is_a = parse_fine_tuned_lora_name(name, mapper)
            expected = tensor.to(manager.lora_config.lora_dtype)
            if not is_a:
                _, scaling = helper.get_rank_and_scaling(parse_fine_tuned_lora_name(name)[0])
                expected = expected if scaling == 1 else expected * scaling
            loaded = _tensor(held.loras, module, parts.get(module), is_a)
            if loaded is None or not torch.equal(loaded.cpu(), expected):
                found = "none" if loaded is None else "another"
                raise ValueError(f"expected {name} of {folder} in vLLM; got {found}")
        return content_hash(tensors)


def _tensor(
    loras: dict[str, Any], module: str, place: tuple[str, int] | None, is_a: bool
) -> Tensor | None:
    """One tensor of an adapter in memory, alone or as part of a packed layer."""
    layer = loras.get(module if place is None else place[0])
    if layer is None:
        return None
    held = layer.lora_a if is_a else layer.lora_b
    return held if place is None else held[place[1]]
