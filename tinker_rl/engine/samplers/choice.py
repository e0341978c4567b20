"""Which sampler a base model gets, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from transformers import PreTrainedModel

from tinker_rl import lineup
from tinker_rl.engine.device import DeviceThread
from tinker_rl.engine.samplers.base import Finish, Sampler
from tinker_rl.engine.samplers.embedded import EmbeddedSampler, EmbeddedSamplerConfig, Replica
from tinker_rl.engine.samplers.embedded.host import EmbeddedHost
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.engine.samplers.vllm.sampler import VllmSampler
from tinker_rl.errors import ConfigError

__all__ = ["SamplerOption", "make_sampler", "sampler_config"]

SamplerConfig: TypeAlias = EmbeddedSamplerConfig | VllmSamplerConfig
SamplerOption: TypeAlias = Literal["auto", "vllm", "embedded"] | SamplerConfig


def sampler_config(option: SamplerOption, base_model: str) -> SamplerConfig:
    """The options of the sampler that `option` means for a model.

    `auto` is vLLM where that is installed and the model is not `tiny`, which it would only slow.

    Raises:
        ConfigError: if it is not installed, or unknown.
    """
    if option == "auto":
        option = lineup.default_sampler(base_model)
    if option == "vllm":
        option = VllmSamplerConfig()
    elif option == "embedded":
        option = EmbeddedSamplerConfig()
    if isinstance(option, str):
        raise ConfigError(
            f"EngineOptions.sampler: expected 'auto', 'vllm', 'embedded' or a configuration; got "
            f"{option!r}."
        )
    if isinstance(option, VllmSamplerConfig) and not lineup.has_vllm():
        raise ConfigError(
            "EngineOptions.sampler: expected an installed vLLM; got none. Install "
            "tinker-rl[vllm] (a GPU) or run `make vllm` (a CPU), or take sampler='embedded'."
        )
    return option


def make_sampler(
    config: SamplerConfig,
    base_model: str,
    model: PreTrainedModel,
    tokenizer: Any,
    context: int,
    device: DeviceThread,
) -> Callable[[Finish], Sampler]:
    """A maker of the sampler of a base model. Call it in the device's thread, before the model
    carries adapters.

    Raises:
        UnsupportedError: if the sampler cannot run the model.
    """
    if isinstance(config, VllmSamplerConfig):
        folder, dtype = lineup.model_path(base_model), str(model.dtype).removeprefix("torch.")
        is_cpu = model.device.type == "cpu"
        return lambda finish: VllmSampler(folder, context, dtype, is_cpu, config, finish)
    replica = Replica(model)

    def make() -> EmbeddedSampler:
        return EmbeddedSampler(replica, tokenizer.decode, config)

    return lambda finish: EmbeddedHost(make, device, context, finish)
