"""Options of the vLLM sampler."""

from __future__ import annotations

import msgspec

from tinker_rl.errors import ConfigError

__all__ = [
    "DEFAULT_CPU_CACHE_BYTES",
    "DEFAULT_LORA_RANK",
    "DEFAULT_MEMORY_SHARE",
    "VllmSamplerConfig",
    "fitting_rank",
]

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The greatest adapter ranks that vLLM can be built for."""

DEFAULT_MEMORY_SHARE = 0.45
DEFAULT_LORA_RANK = 32
DEFAULT_CPU_CACHE_BYTES = 1_000_000_000


class VllmSamplerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the vLLM sampler. None leaves the choice to this package."""

    memory_share: float | None = None
    """Share of each GPU's whole memory that vLLM takes, for weights, cache and activations. None:
    0.45, since the learner holds the base weights too. Not used on a CPU."""
    kv_cache_gb: float | None = None
    """Memory of keys and values in gigabytes (1e9 bytes). None: 1 on a CPU, and on a GPU what
    `memory_share` leaves."""
    max_model_len: int | None = None
    """Most tokens of a prompt and its answer. None: the model's context."""
    max_running: int = 256
    """Most sequences sampled at once; the others wait."""
    max_step_tokens: int | None = None
    """Most tokens of one step of the engine, prompts and answers together. None: as vLLM has it."""
    tensor_parallel_size: int = 1
    """GPUs that share the model."""
    max_loras: int = 4
    """Most weight versions that are sampled from in one step; requests of others wait."""
    max_lora_rank: int | None = None
    """Greatest rank of an adapter; 0 takes none. None: 32, and vLLM is restarted when a greater one
    comes."""
    eager: bool | None = None
    """Run without compilation and CUDA graphs: starts sooner, samples slower on a GPU. None: eager
    on a CPU."""
    block_size: int | None = None
    """Tokens of a block of the prefix cache: shared prompts share whole blocks. None: as vLLM has
    it."""

    start_seconds: float = 900.0
    """Until the engine has loaded the model, compiled it and answers."""
    publish_seconds: float = 120.0
    """Until a weight version is loaded, and until its probe is scored."""
    sample_seconds: float = 3600.0
    """Until a request is answered, its time in the queue and restarts included."""
    stall_seconds: float = 20.0
    """An engine that is silent for so long and uses no processor is stuck. One that was stopped,
    or has died, is noticed at once."""
    step_seconds: float = 300.0
    """An engine that is silent for so long, or makes no token while it has work, is stuck, however
    busy it is."""
    close_seconds: float = 3.0
    """Until the engine has ended by itself; it is killed then."""
    max_restarts: int = 3
    """Restarts in a row, no request answered in between, before all that wait get an error."""

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigError: if a value is out of range.
        """
        share = self.memory_share
        rules = (
            ("memory_share", share is None or 0 < share < 1, "between 0 and 1"),
            ("kv_cache_gb", self.kv_cache_gb is None or self.kv_cache_gb > 0, "more than 0"),
            ("max_model_len", self.max_model_len is None or self.max_model_len > 1, "2 or more"),
            ("max_running", self.max_running >= 1, "1 or more"),
            ("tensor_parallel_size", self.tensor_parallel_size >= 1, "1 or more"),
            ("max_loras", self.max_loras >= 1, "1 or more"),
            ("max_lora_rank", self.max_lora_rank in (None, 0, *_RANKS), f"0 or one of {_RANKS}"),
            ("max_restarts", self.max_restarts >= 0, "0 or more"),
            *(
                (name, getattr(self, name) > 0, "more than 0 seconds")
                for name in self.__struct_fields__
                if name.endswith("_seconds")
            ),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ConfigError(
                    f"VllmSamplerConfig.{name}: expected {rule}; got {getattr(self, name)!r}."
                )


def fitting_rank(rank: int) -> int:
    """The least of vLLM's ranks that holds an adapter of `rank`.

    Raises:
        ConfigError: if none does.
    """
    for allowed in _RANKS:
        if rank <= allowed:
            return allowed
    raise ConfigError(
        f"vLLM: expected an adapter of rank {_RANKS[-1]} or less; got {rank}. Use a lower rank, or "
        "the embedded sampler."
    )
