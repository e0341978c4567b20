"""What this machine has: processors, memory, GPUs, disks."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import msgspec

from tinker_rl.cli.probe import SeenGpu

__all__ = ["Disk", "Machine", "Memory", "read_machine", "read_memory"]

_MIB = 1024 * 1024


class Memory(msgspec.Struct, frozen=True):
    """Main memory, the limit of a container respected."""

    total_bytes: int
    free_bytes: int


class Disk(msgspec.Struct, frozen=True):
    """A folder, which need not exist yet, and the room where it lies."""

    path: str
    free_bytes: int
    writable: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the doctor looked at."""

    python: str
    system: str
    cores: int
    memory: Memory
    gpus: tuple[SeenGpu, ...]
    """As the driver's own tool lists them."""
    driver: str | None
    """Version of the NVIDIA driver."""
    shared_memory: Disk | None
    """/dev/shm, by which vLLM's processes talk."""
    keeps_freed: bool
    """Whether the C library keeps what torch freed; see `memory_plan.Device`."""


def read_machine() -> Machine:
    """Look. Takes a moment where there is an NVIDIA driver."""
    gpus, driver = _nvidia_smi()
    shared = Path("/dev/shm")
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=_cores(),
        memory=read_memory(),
        gpus=gpus,
        driver=driver,
        shared_memory=read_disk(shared) if shared.is_dir() else None,
        keeps_freed=platform.libc_ver()[0] == "glibc"
        and not os.environ.get("MALLOC_MMAP_THRESHOLD_"),
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --------------------------------------------------------------------------------------- memory


def read_memory(root: Path = Path("/")) -> Memory:
    """Memory of the computer, or of the control group if that has less.

    Args:
        root: Where `proc` and `sys` are.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = total
    meminfo = _text(root / "proc/meminfo")
    for line in (meminfo or "").splitlines():
        key, _, value = line.partition(":")
        if key == "MemTotal":
            total = int(value.split()[0]) * 1024
        if key == "MemAvailable":
            free = int(value.split()[0]) * 1024
    for limit, used in _limits(root):
        if limit < total:
            total = limit
        free = min(free, max(0, limit - used))
    return Memory(total, free)


def _limits(root: Path) -> list[tuple[int, int]]:
    """(limit, bytes in use that cannot be reclaimed) of the control groups of this process."""
    found: list[tuple[int, int]] = []
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = base / path.strip("/")
        for folder in (group, *group.parents):  # a parent's limit holds too
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None:
                found.append((limit, used - _reclaimable(folder)))
            if folder == base:
                break
    return found


def _reclaimable(folder: Path) -> int:
    """Files that are cached, and go when memory is needed."""
    for line in (_text(folder / "memory.stat") or "").splitlines():
        key, _, value = line.partition(" ")
        if key in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


# ----------------------------------------------------------------------------------------- GPUs


def _nvidia_smi() -> tuple[tuple[SeenGpu, ...], str | None]:
    """GPUs and driver, by the driver's own tool; it sees those that torch cannot use."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), None
    fields = "name,memory.total,memory.free,driver_version"
    try:
        done = subprocess.run(
            [tool, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return (), None
    return parse_gpus(done.stdout if done.returncode == 0 else "")


def parse_gpus(text: str) -> tuple[tuple[SeenGpu, ...], str | None]:
    """Read lines of `name, total MiB, free MiB, driver`."""
    gpus: list[SeenGpu] = []
    driver = None
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4 and parts[1].isdigit() and parts[2].isdigit():
            gpus.append(SeenGpu(parts[0], int(parts[1]) * _MIB, int(parts[2]) * _MIB))
            driver = parts[3]
    return tuple(gpus), driver


# ---------------------------------------------------------------------------------------- disks


def read_disk(path: Path) -> Disk:
    """Room where a folder is, or would be made."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    return Disk(str(path), free, os.access(existing, os.W_OK | os.X_OK))
