"""What every sampler gives and takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec
import numpy as np
from torch import Tensor

from tinker_rl.engine.validation import check_tokens
from tinker_rl.errors import PromptTooLongError, RequestError
from tinker_rl.requests import Sample
from tinker_rl.types import (
    MASKED_LOGPROB,
    SampledSequence,
    SampleResponse,
    SamplingParams,
    TopkLogprobs,
)

__all__ = [
    "BASE_VERSION",
    "AdapterWeights",
    "Finish",
    "SampleJob",
    "Sampler",
    "StopRule",
    "check_sample",
    "stop_rule",
    "unsampled",
]

BASE_VERSION = ""
"""The base model, without an adapter."""


class StopRule(msgspec.Struct, frozen=True):
    """When a sequence is complete."""

    token_ids: tuple[int, ...] = ()
    strings: tuple[str, ...] = ()


class AdapterWeights(msgspec.Struct, frozen=True, eq=False):
    """The weights of one sampler version: immutable once made."""

    tensors: Mapping[str, Tensor]
    """Named as in a peft adapter file."""
    scale: float
    """Factor of the product B @ A."""
    content_hash: str

    @property
    def rank(self) -> int:
        """Greatest rank of its pairs of factors."""
        return max((t.shape[0] for name, t in self.tensors.items() if "lora_A" in name), default=0)

    @property
    def version(self) -> str:
        """What a sampler knows these weights by; it is fit for a file name."""
        return f"{self.content_hash[:32]}-{self.scale:g}"


class SampleJob(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A checked request, ready to be sampled."""

    job_id: int
    version: str
    """Weights to sample from; the empty string is the base model itself."""
    prompt: tuple[int, ...]
    num_samples: int
    max_tokens: int
    seed: int
    """Of the samples; drawn for a request that has none."""
    stop: StopRule
    temperature: float
    top_k: int
    top_p: float
    is_probe: bool = False
    """Whether a version waits for the answer: it goes before all others."""
    is_seeded: bool = True
    """Whether somebody counts on getting the same samples again."""
    topk_samples: int = 0
    """How many alternatives to report for each sampled token."""
    prompt_logprobs: bool = False
    topk_prompt: int = 0
    """How many alternatives to report for each prompt token."""
    prompt_last_n: int | None = None


class Sampler(Protocol):
    """Samples the jobs of one base model; it mends what breaks, and gives each job one answer.

    Used from one event loop. The answers go to the `Finish` that it is made with.
    """

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its answer."""
        ...

    async def serve(self) -> None:
        """Work until cancelled; nothing is sampled before."""
        ...

    async def load(self, version: str, weights: AdapterWeights) -> str:
        """Make a version's weights ready.

        Returns:
            The content hash of the weights that it now holds.
        Raises:
            EngineError, WeightSyncError: if it cannot.
        """
        ...

    def unload(self, version: str) -> None:
        """Forget a version as soon as no job uses it."""
        ...

    def start(self, job: SampleJob) -> None:
        """Queue a job of the base model or of a version that is loaded.

        Raises:
            UnsupportedError: if it cannot sample like that.
            WeightSyncError: if it has lost the version's weights.
        """
        ...

    def cancel(self, job_id: int) -> None:
        """Drop a job, wherever it is; unknown ids are ignored. It gets no answer."""
        ...

    def interrupt(self, job_id: int) -> None:
        """End a job now, wherever it is; its answer is what it has so far.

        Unknown ids are ignored.
        """
        ...


Finish: TypeAlias = Callable[[int, SampleResponse | Exception], None]
"""Takes the answer to a job."""


def unsampled(job: SampleJob) -> SampleResponse:
    """The answer to a job that is interrupted before anything of it was computed."""
    length, k = len(job.prompt), job.topk_prompt
    empty = SampledSequence(
        stop_reason="interrupted",
        tokens_np=np.zeros(0, np.int32),
        logprobs_np=np.zeros(0, np.float32),
        topk_logprobs_np=_no_alternatives(0, job.topk_samples) if job.topk_samples else None,
    )
    return SampleResponse(
        sequences=[empty] * job.num_samples,
        prompt_logprobs_np=np.full(length, np.nan, np.float32) if job.prompt_logprobs else None,
        topk_prompt_logprobs_np=_no_alternatives(length, k) if k else None,
    )


def _no_alternatives(length: int, k: int) -> TopkLogprobs:
    return TopkLogprobs(
        np.zeros((length, k), np.int32), np.full((length, k), MASKED_LOGPROB, np.float32)
    )


def stop_rule(stop: str | Sequence[str | int] | None, eos: Sequence[int]) -> StopRule:
    """None is end-of-sequence; anything given replaces it, an empty list by nothing.

    Raises:
        RequestError: if it mixes strings and token ids, or holds an empty string.
    """
    if stop is None:
        return StopRule(token_ids=tuple(eos))
    values = [stop] if isinstance(stop, str) else list(stop)
    strings = tuple(value for value in values if isinstance(value, str))
    ids = tuple(value for value in values if isinstance(value, int))
    if (strings and ids) or len(strings) + len(ids) != len(values) or "" in strings:
        raise RequestError(
            f"SamplingParams.stop: expected None, a string, a list of non-empty strings, or a list "
            f"of token ids; got {stop!r}."
        )
    return StopRule(ids, strings)


def check_sample(request: Sample, vocab_size: int, context: int) -> int:
    """Check a request's numbers against the model; returns the most tokens it may generate.

    Raises:
        ShapeError: if the prompt is empty.
        PromptTooLongError: if the prompt leaves no room for an answer.
        RequestError: if another value is out of range.
    """
    params = request.sampling_params
    length = request.prompt.length
    check_tokens("sample: prompt", request.prompt.to_numpy(), vocab_size)
    if request.num_samples < 1:
        raise RequestError(f"sample: expected num_samples of 1 or more; got {request.num_samples}.")
    _check_params(params)
    last_n = request.prompt_logprobs_last_n
    if last_n is not None and not 1 <= last_n < max(2, length):
        raise RequestError(
            f"sample: expected prompt_logprobs_last_n from 1 to {length - 1}; got {last_n}."
        )
    for name in ("topk_prompt_logprobs", "topk_sample_logprobs"):
        if not 0 <= getattr(request, name) <= vocab_size:
            raise RequestError(
                f"sample: expected {name} from 0 to {vocab_size}; got {getattr(request, name)}."
            )
    room = context - length
    if room < 1:
        raise PromptTooLongError(
            f"sample: expected a prompt of at most {context - 1} tokens, so that the context of "
            f"{context} has room for an answer; got {length}. Shorten the prompt."
        )
    return room if params.max_tokens is None else min(params.max_tokens, room)


def _check_params(params: SamplingParams) -> None:
    rules = (
        ("max_tokens", params.max_tokens is None or params.max_tokens >= 1, "1 or more, or None"),
        ("temperature", 0 <= params.temperature < float("inf"), "0 (greedy) or more"),
        ("top_k", params.top_k == -1 or params.top_k >= 1, "-1 (off) or 1 or more"),
        ("top_p", 0 < params.top_p <= 1, "in (0, 1]"),
    )
    for name, holds, rule in rules:
        if not holds:
            raise RequestError(
                f"SamplingParams.{name}: expected {rule}; got {getattr(params, name)}."
            )
