"""Which sampler a recipe runs with, and why.

The engine is imported where it is used: it is heavy, and `--help` must be quick.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from tinker_rl import ServiceClient
from tinker_rl.clients.factory import deterministic_options

__all__ = ["SamplerName", "choose_sampler", "open_service"]

SamplerName: TypeAlias = Literal["auto", "vllm", "embedded"]


def choose_sampler(asked: SamplerName, model: str) -> tuple[SamplerName, str]:
    """(sampler, why) of what the command line asks for.

    Raises:
        ConfigError: if it is unknown, or not installed.
    """
    from tinker_rl.engine.samplers.choice import sampler_config
    from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig

    if isinstance(sampler_config(asked, model), VllmSamplerConfig):
        why = "as asked" if asked == "vllm" else "it is installed"
        return "vllm", f"{why}; its first start takes a minute, or a few with a large model"
    if asked == "embedded":
        return "embedded", "as asked"
    return "embedded", "it suits tiny" if model == "tiny" else "vLLM is not installed"


def open_service(sampler: SamplerName, is_deterministic: bool = False) -> ServiceClient:
    """An engine in this process with that sampler; deterministic where the sampler can be."""
    from tinker_rl.engine.local import EngineOptions

    if is_deterministic and sampler == "embedded":
        return ServiceClient(engine_options=deterministic_options())
    return ServiceClient(engine_options=EngineOptions(sampler=sampler))
