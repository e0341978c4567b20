"""Which options to change so that a setup fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from tinker_rl.architectures import ARCHITECTURES
from tinker_rl.errors import choices
from tinker_rl.lineup import LINEUP, find_model
from tinker_rl.memory_plan.learner import learner_memory, token_budget
from tinker_rl.memory_plan.problems import find_problems
from tinker_rl.memory_plan.sampler import DEFAULT_SHARE, context_tokens, sampler_memory
from tinker_rl.memory_plan.setup import GB, Setup, gigabytes

__all__ = ["KEEPS_FREED", "Change", "Value", "find_changes", "with_setting"]

Value: TypeAlias = bool | int | float | str
_Setting: TypeAlias = tuple[str, Value]

KEEPS_FREED = "MALLOC_MMAP_THRESHOLD_"
"""Environment variable of the GNU C library: from which size on freed memory goes back at once."""

_LEAST_CONTEXT = 4096
_LEAST_TOKENS = 1024
_LEAST_CACHE_GB = 0.5
_MOST_SHARE = 0.9


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One option to change, after those before it."""

    setting: str
    value: Value
    effect: str
    """What it brings, in words."""
    saves_bytes: int
    """How much less the least is with which learner and sampler start."""


def with_setting(setup: Setup, setting: str, value: Value) -> Setup:
    """The setup with one option changed, by the name it has in its configuration.

    Besides there are `sampler=embedded`, `model_name=` of the lineup, and `KEEPS_FREED`.
    """
    replace = msgspec.structs.replace
    if setting == "model_name":
        entry = find_model(str(value))
        assert entry is not None
        return replace(
            setup, model_name=entry.name, model=ARCHITECTURES[entry.name], context=entry.context
        )
    if setting == "sampler":
        from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSamplerConfig

        assert value == "embedded"
        return replace(setup, sampler=EmbeddedSamplerConfig())
    if setting == KEEPS_FREED:
        return replace(setup, device=replace(setup.device, keeps_freed=False))
    if setting in setup.lora.__struct_fields__:
        return replace(setup, lora=replace(setup.lora, **{setting: value}))
    if setting in setup.learner.__struct_fields__:
        return replace(setup, learner=replace(setup.learner, **{setting: value}))
    if setup.sampler is not None and setting in setup.sampler.__struct_fields__:
        return replace(setup, sampler=replace(setup.sampler, **{setting: value}))
    raise ValueError(f"with_setting: expected an option; got {setting!r}.{choices(setting, [])}")


def _apply(setup: Setup, settings: list[_Setting]) -> Setup:
    for setting, value in settings:
        setup = with_setting(setup, setting, value)
    return setup


# ------------------------------------------------------------------------------------- remedies


def _no_adapters_on_experts(setup: Setup) -> Iterator[_Setting]:
    if setup.model.num_moe_layers and setup.lora.train_mlp:
        yield "train_mlp", False


def _checkpointing(setup: Setup) -> Iterator[_Setting]:
    if not setup.learner.gradient_checkpointing:
        yield "gradient_checkpointing", True


def _more_gpus(setup: Setup) -> Iterator[_Setting]:
    vllm = setup.vllm
    if vllm is not None and setup.on_gpu:
        for size in range(2, setup.device.count + 1):
            if size > vllm.tensor_parallel_size and setup.model.num_heads % size == 0:
                yield "tensor_parallel_size", size


def _shorter_context(setup: Setup) -> Iterator[_Setting]:
    if setup.vllm is not None:
        for tokens in _halves(context_tokens(setup), _LEAST_CONTEXT):
            yield "max_model_len", tokens


def _smaller_batches(setup: Setup) -> Iterator[_Setting]:
    for tokens in _halves(token_budget(setup), _LEAST_TOKENS):
        yield "token_budget", tokens


def _fewer_versions(setup: Setup) -> Iterator[_Setting]:
    vllm = setup.vllm
    if vllm is not None:
        for count in _halves(vllm.max_loras, 1):
            yield "max_loras", count


def _return_freed(setup: Setup) -> Iterator[_Setting]:
    if setup.device.keeps_freed:
        yield KEEPS_FREED, 1024 * 1024


def _smaller_cache(setup: Setup) -> Iterator[_Setting]:
    embedded, vllm = setup.embedded, setup.vllm
    if embedded is not None:
        gigabytes_ = embedded.max_cache_gb / 2
        while gigabytes_ >= _LEAST_CACHE_GB:
            yield "max_cache_gb", gigabytes_
            gigabytes_ /= 2
    if vllm is not None and (vllm.kv_cache_gb is not None or not setup.on_gpu):
        sampler = sampler_memory(setup)
        assert sampler is not None
        least = math.ceil(sampler.least_cache / GB * 10) / 10
        if least * GB != sampler.cache:
            yield "kv_cache_gb", least


def _embedded_sampler(setup: Setup) -> Iterator[_Setting]:
    if setup.vllm is not None:
        yield "sampler", "embedded"


def _lower_rank(setup: Setup) -> Iterator[_Setting]:
    for rank in _halves(setup.lora.rank, 8):
        yield "rank", rank


def _halves(number: int, least: int) -> Iterator[int]:
    """Powers of two below `number`, down to `least`."""
    power = 1 << max(0, (number - 1).bit_length() - 1)
    while power >= least and power < number:
        yield power
        power //= 2


_REMEDIES: tuple[Callable[[Setup], Iterator[_Setting]], ...] = (
    _no_adapters_on_experts,
    _checkpointing,
    _more_gpus,
    _shorter_context,
    _smaller_batches,
    _fewer_versions,
    _return_freed,
    _smaller_cache,
    _embedded_sampler,
    _smaller_cache,
    _lower_rank,
)
"""The cheapest first: what only costs time, then what limits, then what learns otherwise."""

_HALVED = {
    "max_model_len": _shorter_context,
    "token_budget": _smaller_batches,
    "max_loras": _fewer_versions,
    "max_cache_gb": _smaller_cache,
    "rank": _lower_rank,
}
"""Remedies that try the highest number first."""


# --------------------------------------------------------------------------------------- search


def find_changes(setup: Setup) -> tuple[Change, ...]:
    """Options that make a setup fit, each of them needed; empty if none do.

    `memory_share` goes along with the others. If options are not enough, the first change is to
    the largest model of the lineup for which they are.
    """
    settings = _search(setup)
    if settings is None:
        smaller = [
            entry.name
            for entry in sorted(LINEUP, key=lambda entry: -entry.billion_parameters)
            if ARCHITECTURES[entry.name].total_parameters < setup.model.total_parameters
        ]
        for name in smaller:
            found = _search(with_setting(setup, "model_name", name))
            if found is not None:
                settings = [("model_name", name), *found]
                break
    return () if settings is None else _described(setup, settings)


def _search(setup: Setup) -> list[_Setting] | None:
    """The options that make a setup fit, its model unchanged; None if none do."""
    settings: list[_Setting] = []
    for remedy in _REMEDIES:
        if _completed(setup, settings) is not None:
            break
        strongest: list[_Setting] = []
        for setting in remedy(_apply(setup, settings)):
            strongest = [setting]
            if _completed(setup, [*settings, setting]) is not None:
                break
        settings += strongest
    if _completed(setup, settings) is None:
        return None
    for setting in reversed(settings):
        without = [other for other in settings if other is not setting]
        if _applies(setup, without) and _completed(setup, without) is not None:
            settings = without
    return _completed(setup, _relaxed(setup, settings))


def _relaxed(setup: Setup, settings: list[_Setting]) -> list[_Setting]:
    """The same with every number as high as it can be: those after it may have made room."""
    for index, (setting, value) in enumerate(settings):
        if setting not in _HALVED:
            continue
        before = _apply(setup, settings[:index])
        for weaker, higher in _HALVED[setting](before):
            if (weaker, higher) == (setting, value):
                break
            tried = [*settings[:index], (setting, higher), *settings[index + 1 :]]
            if weaker == setting and _completed(setup, tried) is not None:
                settings = tried
                break
    return settings


def _applies(setup: Setup, settings: list[_Setting]) -> bool:
    try:
        _apply(setup, settings)
    except (ValueError, TypeError):  # an option of the sampler that is not chosen any more
        return False
    return True


def _completed(setup: Setup, settings: list[_Setting]) -> list[_Setting] | None:
    """The settings, and a `memory_share` if another is needed, with which it fits, or None."""
    changed = _apply(setup, settings)
    if not find_problems(changed):
        return settings
    share = _share(changed)
    if share is None or find_problems(with_setting(changed, "memory_share", share)):
        return None
    return [*settings, ("memory_share", share)]


def _share(setup: Setup) -> float | None:
    """The greatest share that leaves room for the learner."""
    sampler, vllm = sampler_memory(setup), setup.vllm
    if sampler is None or vllm is None or vllm.kv_cache_gb is not None or not setup.on_gpu:
        return None
    room = setup.device.free_bytes - learner_memory(setup).total
    share = min(_MOST_SHARE, math.floor(100 * room / setup.device.total_bytes) / 100)
    return share if 0 < share != (vllm.memory_share or DEFAULT_SHARE) else None


# -------------------------------------------------------------------------------------- in words


def _described(setup: Setup, settings: list[_Setting]) -> tuple[Change, ...]:
    changes: list[Change] = []
    for setting, value in settings:
        after = with_setting(setup, setting, value)
        saves = _least_bytes(setup) - _least_bytes(after)
        changes.append(
            Change(
                setting=setting,
                value=value,
                effect=_effect(setting, after, saves),
                saves_bytes=saves,
            )
        )
        setup = after
    return tuple(changes)


def _least_bytes(setup: Setup) -> int:
    sampler = sampler_memory(setup)
    return learner_memory(setup).total + (0 if sampler is None else sampler.least)


def _effect(setting: str, after: Setup, saves: int) -> str:
    sampler = sampler_memory(after)
    if setting == "memory_share" and sampler is not None:
        return (
            f"vLLM takes {gigabytes(sampler.total)} of {gigabytes(after.device.total_bytes)}, and "
            f"its cache holds {sampler.cache_tokens} tokens"
        )
    saved = f"{gigabytes(saves)} less"
    return {
        "train_mlp": "no adapters on experts",
        "gradient_checkpointing": f"{saved}, for about a third more time",
        "model_name": f"{saved}: the largest of the lineup that fits",
        "sampler": f"{saved}: no second copy of the weights, but slower sampling",
        "max_model_len": f"{saved} at the least: prompt and answer together are that long at most",
        KEEPS_FREED: f"{saved}, for more time: set in the environment, freed memory is given back",
    }.get(setting, saved)
