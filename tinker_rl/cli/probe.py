"""Asks torch what it sees, in a process of its own: a broken one must not take the doctor along."""

from __future__ import annotations

import subprocess
import sys

import msgspec

__all__ = ["SeenGpu", "TorchProbe", "probe_torch"]

_SECONDS = 60

_SCRIPT = """\
import importlib, importlib.util, json, warnings
warnings.simplefilter("ignore")
found = {"gpus": [], "broken": {}}
try:
    import torch
    found["version"] = torch.__version__
    found["cuda"] = torch.version.cuda or torch.version.hip
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            found["gpus"].append({"name": name, "total_bytes": total, "free_bytes": free})
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"
else:
    for name in ("torchvision", "torchaudio", "torchcodec"):
        if importlib.util.find_spec(name):
            try:
                importlib.import_module(name)
            except Exception as error:
                found["broken"][name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


class SeenGpu(msgspec.Struct, frozen=True):
    """A GPU."""

    name: str
    total_bytes: int
    free_bytes: int


class TorchProbe(msgspec.Struct, frozen=True, kw_only=True):
    """What torch says of itself."""

    version: str | None = None
    cuda: str | None = None
    """Version of CUDA (or ROCm) that it was built for; None: for a CPU alone."""
    gpus: tuple[SeenGpu, ...] = ()
    """Those that it can use."""
    broken: dict[str, str] = {}
    """Its companions that are installed and cannot be imported, and why."""
    error: str | None = None
    """Why it cannot be imported itself."""


def probe_torch() -> TorchProbe:
    """Import torch in a new process, and look."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return TorchProbe(error=f"importing it took more than {_SECONDS} seconds")
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return TorchProbe(error=f"exit status {done.returncode}: {last}")
    return msgspec.json.decode(lines[-1], type=TorchProbe)
