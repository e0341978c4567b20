"""`python -m tinker_rl doctor`: what was found, what is wrong, and whether a model fits.

Downloads nothing and starts no engine.

    python -m tinker_rl doctor
    python -m tinker_rl doctor model_name=Qwen/Qwen3-8B gpu_memory_gb=80
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

import chz
import msgspec
from rich.console import Console

from tinker_rl.cli.findings import machine_problems, source_problem
from tinker_rl.cli.machine import Disk, Machine, read_disk, read_machine
from tinker_rl.cli.model_source import ModelSource, find_source, known_architecture
from tinker_rl.cli.packages import Installed, Problem, find_conflicts, read_installed
from tinker_rl.cli.probe import SeenGpu, TorchProbe, probe_torch
from tinker_rl.cli.report import as_json, show
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.errors import ConfigError, TinkerRLError
from tinker_rl.lineup import default_sampler
from tinker_rl.memory_plan import Device, MemoryPlan, SamplerConfig, Setup, plan_memory
from tinker_rl.recipes.command import run_command
from tinker_rl.recipes.rl_basic import LARGE_GPU_GB
from tinker_rl.types import LoraConfig

__all__ = ["Config", "Report", "default_model", "examine", "run"]

GB = 1_000_000_000


@chz.chz
class Config:
    """Options of the command line, each as `name=value`."""

    model_name: str | None = chz.field(
        default=None, doc="Lineup, hub name or folder; what rl_basic would train here."
    )
    sampler: Literal["auto", "vllm", "embedded"] = chz.field(
        default="auto", doc="auto: vLLM where it is installed, but for tiny."
    )
    rank: int = chz.field(default=32, doc="Rank of the adapter.")
    train_mlp: bool = chz.field(default=True, doc="Adapters on MLPs; false for mixtures.")
    token_budget: int | None = chz.field(default=None, doc="Of a micro-batch (LearnerConfig).")
    gradient_checkpointing: bool = chz.field(default=False, doc="Of the learner.")
    memory_share: float | None = chz.field(default=None, doc="vLLM's share of a GPU.")
    max_model_len: int | None = chz.field(default=None, doc="vLLM's longest sequence.")
    max_loras: int = chz.field(default=4, doc="vLLM's slots for adapters.")
    tensor_parallel_size: int = chz.field(default=1, doc="GPUs that share vLLM's model.")
    max_cache_gb: float = chz.field(default=4.0, doc="Keys and values, embedded sampler.")
    gpu_memory_gb: float | None = chz.field(
        default=None, doc="Plan for a GPU of that many gigabytes (1e9 bytes), not for this machine."
    )
    num_gpus: int = chz.field(default=1, doc="How many of them, with gpu_memory_gb.")
    json: bool = chz.field(default=False, doc="Print one JSON object.")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that the doctor has to say."""

    machine: Machine
    torch: TorchProbe
    installed: Mapping[str, Installed]
    home: Disk
    """Where runs and checkpoints go."""
    model_name: str
    sampler: str
    source: ModelSource | None
    plan: MemoryPlan | None
    pretended: bool
    """Whether the plan is for another machine."""
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether it fits and nothing is broken."""
        return not self.problems and self.plan is not None and self.plan.fits


def run() -> None:
    """Run the command, and leave with 0 if it fits and nothing is broken, else with 1."""
    run_command(_main, Config)


def _main(config: Config) -> None:
    report = examine(config)
    if config.json:
        print(msgspec.json.encode(as_json(report)).decode())
    else:
        show(report, Console(highlight=False))
    sys.exit(0 if report.ok else 1)


def default_model(gpu_memory_gb: float) -> str:
    """What `rl_basic` trains on a machine whose GPU has so much memory; 0 if it has none."""
    return "meta-llama/Llama-3.1-8B" if gpu_memory_gb >= LARGE_GPU_GB else "tiny"


def examine(config: Config) -> Report:
    """Look at this machine, and plan.

    Raises:
        ConfigError: for an option out of range.
    """
    _check(config)
    vllm = _vllm_options(config)
    machine, torch, installed = read_machine(), probe_torch(), read_installed()
    gpus = torch.gpus or machine.gpus
    device = _device(config, machine, gpus)
    memory_gb = device.total_bytes / GB if device.kind == "cuda" else 0
    model_name = config.model_name or default_model(memory_gb)
    sampler = default_sampler(model_name) if config.sampler == "auto" else config.sampler
    pretended = config.gpu_memory_gb is not None
    problems = find_conflicts(installed)
    problems += machine_problems(machine, torch, installed, "" if pretended else sampler)
    source, plan = None, None
    try:
        model, context = known_architecture(model_name)
        source = find_source(model_name, model)
        if torch.error is None:  # the engine's options load it
            plan = plan_memory(
                Setup(
                    model_name=model_name,
                    model=model,
                    context=context,
                    device=device,
                    dtype="bfloat16" if device.kind == "cuda" else "float32",
                    lora=LoraConfig(rank=config.rank, train_mlp=config.train_mlp),
                    **_options(config, vllm if sampler == "vllm" else None),
                )
            )
    except TinkerRLError as error:
        problems.append(Problem(str(error), "pass another model_name or other options"))
    missing = None if source is None or pretended else source_problem(model_name, source)
    return Report(
        machine=machine,
        torch=torch,
        installed=installed,
        home=_home(),
        model_name=model_name,
        sampler=sampler,
        source=source,
        plan=plan,
        pretended=pretended,
        problems=(*problems, *([missing] if missing else [])),
    )


def _check(config: Config) -> None:
    rules = (
        ("rank", config.rank >= 1, "1 or more"),
        ("token_budget", config.token_budget is None or config.token_budget >= 1, "1 or more"),
        ("max_cache_gb", config.max_cache_gb > 0, "more than 0"),
        ("gpu_memory_gb", config.gpu_memory_gb is None or config.gpu_memory_gb > 0, "more than 0"),
        ("num_gpus", config.num_gpus >= 1, "1 or more"),
    )
    for name, holds, rule in rules:
        if not holds:
            raise ConfigError(f"{name}: expected {rule}; got {getattr(config, name)}.")


def _device(config: Config, machine: Machine, gpus: tuple[SeenGpu, ...]) -> Device:
    if config.gpu_memory_gb is not None:
        size = int(config.gpu_memory_gb * GB)
        return Device(kind="cuda", total_bytes=size, free_bytes=size, count=config.num_gpus)
    if gpus:
        first = gpus[0]
        return Device(
            kind="cuda",
            total_bytes=first.total_bytes,
            free_bytes=first.free_bytes,
            count=len(gpus),
        )
    memory = machine.memory
    return Device(
        kind="cpu",
        total_bytes=memory.total_bytes,
        free_bytes=memory.free_bytes,
        keeps_freed=machine.keeps_freed,
    )


def _vllm_options(config: Config) -> VllmSamplerConfig:
    return VllmSamplerConfig(
        memory_share=config.memory_share,
        max_model_len=config.max_model_len,
        max_loras=config.max_loras,
        tensor_parallel_size=config.tensor_parallel_size,
    )


def _options(config: Config, vllm: VllmSamplerConfig | None) -> dict[str, Any]:
    """The engine's own options; importing them takes seconds, since it loads torch."""
    from tinker_rl.engine.learner import LearnerConfig
    from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSamplerConfig

    learner = LearnerConfig(
        token_budget=config.token_budget, gradient_checkpointing=config.gradient_checkpointing
    )
    sampler: SamplerConfig = vllm or EmbeddedSamplerConfig(max_cache_gb=config.max_cache_gb)
    return {"learner": learner, "sampler": sampler}


def _home() -> Disk:
    from tinker_rl.engine.checkpoints import default_root

    return read_disk(default_root())
