"""The sampler in the engine's own process: torch and transformers, continuous batching."""

from tinker_rl.engine.samplers.embedded.replica import Replica
from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSampler, EmbeddedSamplerConfig

__all__ = ["EmbeddedSampler", "EmbeddedSamplerConfig", "Replica"]
