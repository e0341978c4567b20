import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinker_rl.engine.base_model import context_length, load_base_model
from tinker_rl.errors import UnknownNameError

CPU = torch.device("cpu")


@pytest.fixture
def folder(llama, tmp_path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "model"))


def test_a_model_comes_frozen_and_in_evaluation_mode(base_model):
    model = load_base_model(base_model, CPU, torch.bfloat16)
    assert not model.training
    assert all(not p.requires_grad and p.dtype == torch.bfloat16 for p in model.parameters())


def test_the_context_is_the_smaller_of_what_is_known(llama):
    tiny = load_base_model("tiny", CPU, torch.float32)
    assert tiny.config.max_position_embeddings == 2048
    assert context_length("tiny", tiny) == 1024  # the lineup's
    assert context_length(llama, load_base_model(llama, CPU, torch.float32)) == 256


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("config.json", b"{"),
        ("config.json", b"{}"),
        ("config.json", b'{"model_type": "nobody-knows"}'),
        ("model.safetensors", b""),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0 not a header"),
        ("model.safetensors", None),
    ],
)
def test_a_damaged_folder_is_an_error_with_its_reason(folder, file, data):
    (folder / file).unlink()
    if data is not None:
        (folder / file).write_bytes(data)
    with pytest.raises(UnknownNameError, match="expected a model that can be had here"):
        load_base_model(str(folder), CPU, torch.float32)


def test_missing_tensors_are_not_filled_with_random_numbers(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnknownNameError, match=r"lack 1 tensors, .*layers\.1\.mlp\.up_proj"):
        load_base_model(str(folder), CPU, torch.float32)
