"""What training and sampling requests give."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Literal, Self, TypeAlias

import msgspec
import numpy as np

from tinker_rl.types.inputs import Array, TensorData

__all__ = [
    "MASKED_LOGPROB",
    "ForwardBackwardOutput",
    "LoadWeightsResponse",
    "LogprobList",
    "LossFnOutput",
    "OptimStepResponse",
    "Response",
    "SampleResponse",
    "SampledSequence",
    "SamplingClientKind",
    "SaveWeightsForSamplerResponse",
    "SaveWeightsResponse",
    "StopReason",
    "TopkLogprobs",
]

StopReason: TypeAlias = Literal["stop", "length", "interrupted"]
"""`interrupted` is seen only by who calls `SamplingClient.interrupt`."""
SamplingClientKind: TypeAlias = Literal["snapshot", "inflight"]
LossFnOutput: TypeAlias = dict[str, TensorData]

MASKED_LOGPROB = -99999.0
"""Filler of an empty cell in a `TopkLogprobs` matrix; its token id is 0."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A result. Awaiting it gives itself, so `await (await client.method_async())` always works."""

    def __await__(self) -> Generator[Any, Any, Self]:
        return self
        yield


class ForwardBackwardOutput(Response, frozen=True, kw_only=True, eq=False):
    """Per-datum outputs, in the order of the request, and metrics named `name:reduction`."""

    loss_fn_output_type: str = "ArrayRecord"
    loss_fn_outputs: list[LossFnOutput]
    metrics: dict[str, float] = {}


class OptimStepResponse(Response, frozen=True, kw_only=True):
    metrics: dict[str, float] | None = None


class SaveWeightsResponse(Response, frozen=True, kw_only=True):
    path: str


class SaveWeightsForSamplerResponse(Response, frozen=True, kw_only=True):
    path: str


class LoadWeightsResponse(Response, frozen=True, kw_only=True):
    path: str | None = None


class TopkLogprobs(msgspec.Struct, frozen=True, eq=False):
    """The most likely tokens at each position.

    Empty positions hold token 0 and logprob -99999.
    """

    token_ids: Array
    """int32, shape [positions, k]."""
    logprobs: Array
    """float32, shape [positions, k], most likely first."""

    def to_lists(self) -> list[list[tuple[int, float]] | None]:
        """One list of (token id, logprob) a position, None where nothing was computed."""
        rows = zip(self.token_ids.tolist(), self.logprobs.tolist(), strict=True)
        return [
            [pair for pair in zip(ids, logprobs, strict=True) if pair[1] != MASKED_LOGPROB] or None
            for ids, logprobs in rows
        ]


class SampledSequence(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One sampled sequence; its stop token, where there is one, is the last token.

    One that was interrupted may be empty.
    """

    stop_reason: StopReason
    tokens_np: Array
    """Token ids, int32, shape [T]."""
    logprobs_np: Array | None = None
    """Natural log-probability of each token under the distribution it was drawn from, float32,
    shape [T]."""
    topk_logprobs_np: TopkLogprobs | None = None
    sequence_id: str = ""

    @property
    def tokens(self) -> list[int]:
        """Token ids."""
        return self.tokens_np.tolist()

    @property
    def logprobs(self) -> list[float] | None:
        """Log-probability of each token."""
        return None if self.logprobs_np is None else self.logprobs_np.tolist()

    @property
    def topk_logprobs(self) -> list[list[tuple[int, float]] | None] | None:
        """(token id, logprob) pairs a position."""
        return None if self.topk_logprobs_np is None else self.topk_logprobs_np.to_lists()


class LogprobList(list[float | None]):
    """Logprobs of a prompt, None first. Awaiting it gives itself, like every result."""

    def __await__(self) -> Iterator[Any]:
        return self
        yield

    @classmethod
    def from_numpy(cls, logprobs: Array) -> LogprobList:
        """From float32 values in which NaN means not computed."""
        return cls(None if np.isnan(value) else float(value) for value in logprobs)


class SampleResponse(Response, frozen=True, kw_only=True, eq=False):
    """What a prompt was completed with."""

    sequences: list[SampledSequence]
    prompt_logprobs_np: Array | None = None
    """float32, shape [len(prompt)], NaN first and wherever none was asked for."""
    topk_prompt_logprobs_np: TopkLogprobs | None = None
    prompt_cache_hit_tokens: int = 0

    @property
    def prompt_logprobs(self) -> list[float | None] | None:
        """Untempered logprob of each prompt token, None at the first."""
        logprobs = self.prompt_logprobs_np
        return None if logprobs is None else LogprobList.from_numpy(logprobs)

    @property
    def topk_prompt_logprobs(self) -> list[list[tuple[int, float]] | None] | None:
        """(token id, logprob) pairs a prompt position."""
        topk = self.topk_prompt_logprobs_np
        return None if topk is None else topk.to_lists()
