from pathlib import Path

import pytest

from tinker_rl.cli.machine import parse_gpus, read_disk, read_machine, read_memory

GIB = 1024**3
MEMINFO = f"MemTotal: {16 * 1024 * 1024} kB\nMemFree: 1 kB\nMemAvailable: {8 * 1024 * 1024} kB\n"


@pytest.fixture
def root(tmp_path):
    """Writes files where a system has its own; returns the folder."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_memory_is_that_of_the_computer(root):
    memory = read_memory(root({"proc/meminfo": MEMINFO}))
    assert (memory.total_bytes, memory.free_bytes) == (16 * GIB, 8 * GIB)


def test_the_limit_of_a_control_group_holds_and_that_of_its_parents(root):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/memory.max": str(4 * GIB),
        "sys/fs/cgroup/pod/memory.current": str(3 * GIB),
        "sys/fs/cgroup/pod/memory.stat": f"anon 5\ninactive_file {GIB}\n",
        "sys/fs/cgroup/pod/container/memory.max": "max",
        "sys/fs/cgroup/pod/container/memory.current": "5",
    }
    memory = read_memory(root(files))
    assert (memory.total_bytes, memory.free_bytes) == (4 * GIB, 2 * GIB)


def test_the_older_kind_of_control_group_is_read_too(root):
    group = "sys/fs/cgroup/memory/box"
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu:/box\n4:memory:/box\n",
        f"{group}/memory.limit_in_bytes": str(2 * GIB),
        f"{group}/memory.usage_in_bytes": str(GIB),
    }
    memory = read_memory(root(files))
    assert (memory.total_bytes, memory.free_bytes) == (2 * GIB, GIB)


def test_a_limit_above_all_memory_is_none(root):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": str(2**63 - 4096),
        "sys/fs/cgroup/memory.current": "0",
    }
    assert read_memory(root(files)).total_bytes == 16 * GIB


def test_gpus_are_read_from_the_drivers_tool():
    gpus, driver = parse_gpus("NVIDIA H100 80GB HBM3, 81559, 81000, 570.86\nodd line\n")
    assert driver == "570.86"
    assert [(gpu.name, gpu.total_bytes) for gpu in gpus] == [
        ("NVIDIA H100 80GB HBM3", 81559 * 1024**2)
    ]
    assert parse_gpus("") == ((), None)
    assert parse_gpus("A, [N/A], [N/A], 5\n") == ((), None)


def test_a_folder_that_is_not_there_has_the_room_of_what_is_above_it(tmp_path):
    disk = read_disk(tmp_path / "a" / "b")
    assert disk.free_bytes > 0
    assert disk.writable
    assert not Path(disk.path).exists()


def test_this_machine_is_read():
    machine = read_machine()
    assert machine.cores >= 1
    assert 0 <= machine.memory.free_bytes <= machine.memory.total_bytes
