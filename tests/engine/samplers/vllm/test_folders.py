import shutil
from collections import namedtuple

import peft
import torch

from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.vllm.folders import AdapterFolders

WEIGHTS = AdapterWeights(
    {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(4, 8),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": torch.ones(6, 4),
        "base_model.model.lm_head.lora_A.weight": torch.ones(4, 8),
        "base_model.model.lm_head.lora_B.weight": torch.ones(6, 4),
    },
    2.5,
    "0" * 64,
)


def test_a_folder_is_one_that_peft_reads():
    folders = AdapterFolders("base")
    folder = folders.write("v1", WEIGHTS)
    config = peft.LoraConfig.from_pretrained(str(folder))
    assert (config.r, config.lora_alpha) == (4, 10.0)
    assert set(config.target_modules) == {"q_proj", "lm_head"}
    folders.remove(folder)
    assert not folder.exists()
    folders.close()
    assert not any(root.exists() for root in folders.roots)


def test_where_shared_memory_has_no_room_the_disk_is_used(monkeypatch):
    folders = AdapterFolders("base")
    assert len(folders.roots) == 2
    usage = namedtuple("usage", "total used free")
    full = folders.roots[0]
    real = shutil.disk_usage

    def disk_usage(path):
        return usage(100, 100, 0) if path == full else real(path)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert folders.write("v1", WEIGHTS).parent == folders.roots[1]
    folders.close()
