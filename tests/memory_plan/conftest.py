import pytest

from tinker_rl.architectures import ARCHITECTURES
from tinker_rl.engine.learner import LearnerConfig
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.lineup import find_model
from tinker_rl.memory_plan import Device, Setup

GB = 1_000_000_000


def make_setup(name="Qwen/Qwen3-8B", gb=80, used_gb=0, **changes):
    entry = find_model(name)
    options = {
        "model_name": name,
        "model": ARCHITECTURES[name],
        "context": entry.context,
        "device": Device(
            kind="cuda", total_bytes=int(gb * GB), free_bytes=int(max(0, gb - used_gb) * GB)
        ),
        "dtype": "bfloat16",
        "learner": LearnerConfig(),
        "sampler": VllmSamplerConfig(),
    }
    return Setup(**{**options, **changes})


@pytest.fixture(scope="session")
def setup_of():
    """Makes a setup: a model of the lineup on a GPU of some gigabytes, sampled with vLLM."""
    return make_setup
