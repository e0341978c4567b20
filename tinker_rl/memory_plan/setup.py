"""What is to be put on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from tinker_rl.architectures import Architecture
from tinker_rl.types import LoraConfig

if TYPE_CHECKING:  # some of them load torch, which counting does not need
    from tinker_rl.engine.learner import LearnerConfig
    from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSamplerConfig
    from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig

__all__ = ["GB", "Device", "Dtype", "SamplerConfig", "Setup", "gigabytes"]

GB = 1_000_000_000

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
SamplerConfig: TypeAlias = "EmbeddedSamplerConfig | VllmSamplerConfig"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU, or the memory of the computer."""

    kind: Literal["cuda", "cpu"]
    total_bytes: int
    free_bytes: int
    """What others leave of it now."""
    count: int = 1
    """GPUs of that size."""
    keeps_freed: bool = False
    """Whether the C library keeps much of what was freed, as that of most Linux systems does."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """A model, how it is trained and sampled, and where."""

    model_name: str
    model: Architecture
    context: int
    """Longest sequence of the model, in tokens."""
    device: Device
    dtype: Dtype
    learner: LearnerConfig
    sampler: SamplerConfig | None
    """None: only train."""
    lora: LoraConfig = LoraConfig()

    @property
    def item_bytes(self) -> int:
        """Bytes of one weight."""
        return 4 if self.dtype == "float32" else 2

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.kind == "cuda"

    @property
    def vllm(self) -> VllmSamplerConfig | None:
        """The sampler's options if it is vLLM."""
        from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig

        return self.sampler if isinstance(self.sampler, VllmSamplerConfig) else None

    @property
    def embedded(self) -> EmbeddedSamplerConfig | None:
        """The sampler's options if it is the embedded one."""
        from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig

        return None if isinstance(self.sampler, VllmSamplerConfig) else self.sampler


def gigabytes(num_bytes: float) -> str:
    """Bytes for people, such as `16.1 GB` or `12 MB`."""
    if abs(num_bytes) >= GB / 10:
        return f"{num_bytes / GB:.1f} GB"
    return f"{num_bytes / 1e6:.0f} MB"
