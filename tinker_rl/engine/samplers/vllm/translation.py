"""Our jobs in vLLM's words, and its answers in ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinker_rl.engine.samplers.base import SampleJob, unsampled
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.errors import SamplerError, UnsupportedError
from tinker_rl.types import (
    MASKED_LOGPROB,
    SampledSequence,
    SampleResponse,
    StopReason,
    TopkLogprobs,
)

__all__ = ["check_job", "sample_response", "sampling_params", "too_late"]


_STOP_REASONS: dict[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "abort": "interrupted",
}


def _vllm_seed(seed: int) -> int:
    """A seed of 62 bits. vLLM gives sample i the seed `seed + i`: hashed, neighbours share none."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


def check_job(job: SampleJob) -> None:
    """
    Raises:
        UnsupportedError: if vLLM would refuse it, or take it for something else.
    """
    if job.temperature != 0 and not 0.01 <= job.temperature <= 2:
        raise UnsupportedError(
            "SamplingParams.temperature: vLLM takes 0, and 0.01 to 2; got "
            f"{job.temperature:g}. Sample it with EngineOptions(sampler='embedded')."
        )


def too_late(job: SampleJob, config: VllmSamplerConfig) -> SamplerError:
    """The error of a job whose deadline has passed."""
    what, limit, name = "sample", config.sample_seconds, "sample_seconds"
    if job.is_probe:
        what, limit, name = "publish: probe", config.publish_seconds, "publish_seconds"
    return SamplerError(
        f"{what}: expected an answer within {limit:.0f} s ({name}); got none. Ask for fewer "
        "tokens, or allow more time."
    )


def sampling_params(job: SampleJob) -> Any:
    """vLLM's `SamplingParams` of a job."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    scored = job.prompt_logprobs or job.topk_prompt > 0
    return SamplingParams(
        n=1 if job.temperature == 0 else job.num_samples,  # greedy samples are all the same
        temperature=job.temperature,
        top_k=job.top_k,
        top_p=job.top_p,
        seed=_vllm_seed(job.seed) if job.is_seeded else None,  # a seed costs vLLM time
        max_tokens=job.max_tokens,
        stop=list(job.stop.strings),
        stop_token_ids=list(job.stop.token_ids),
        ignore_eos=True,  # what ends a sequence is in the job
        logprobs=job.topk_samples,
        prompt_logprobs=job.topk_prompt if scored else None,
        detokenize=bool(job.stop.strings),
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        flat_logprobs=True,
    )


def sample_response(job: SampleJob, output: Any) -> SampleResponse:
    """Our response out of vLLM's `RequestOutput`."""
    logprobs, topk = _prompt_scores(job, output.prompt_logprobs)
    samples = sorted(output.outputs, key=lambda sample: sample.index)
    sequences = [_sequence(job, sample) for sample in samples]
    return SampleResponse(
        sequences=sequences * (job.num_samples // len(sequences)),
        prompt_logprobs_np=logprobs,
        topk_prompt_logprobs_np=topk,
        prompt_cache_hit_tokens=output.num_cached_tokens or 0,
    )


def _sequence(job: SampleJob, sample: Any) -> SampledSequence:
    tokens = np.array(sample.token_ids, np.int32)
    # Each position has the token itself, then the likeliest ones.
    width = 1 + job.topk_samples
    shape = (len(tokens), width)
    logprobs = np.array(sample.logprobs.logprobs, np.float32).reshape(shape)
    topk = None
    if job.topk_samples:
        ids = np.array(sample.logprobs.token_ids, np.int32).reshape(shape)[:, 1:]
        values = logprobs[:, 1:]
        cut_off = ~np.isfinite(values)
        topk = TopkLogprobs(np.where(cut_off, 0, ids), np.where(cut_off, MASKED_LOGPROB, values))
    return SampledSequence(
        stop_reason=_STOP_REASONS[sample.finish_reason],
        tokens_np=tokens,
        logprobs_np=np.ascontiguousarray(logprobs[:, 0]),
        topk_logprobs_np=topk,
    )


def _prompt_scores(
    job: SampleJob, scores: Any
) -> tuple[npt.NDArray[np.float32] | None, TopkLogprobs | None]:
    """Logprobs of the prompt's tokens, and the likeliest tokens at each position."""
    if scores is None:
        return None, None
    length, k = len(job.prompt), job.topk_prompt
    first = 1 if job.prompt_last_n is None else max(1, length - job.prompt_last_n)
    shape = (length - 1, 1 + k)
    if len(scores.logprobs) < shape[0] * shape[1]:  # interrupted before the prompt was read
        nothing = unsampled(job)
        return nothing.prompt_logprobs_np, nothing.topk_prompt_logprobs_np
    values = _flat(scores.logprobs, shape, np.float32)
    ids = _flat(scores.token_ids, shape, np.int32)
    logprobs = np.full(length, np.nan, np.float32)
    logprobs[first:] = values[first - 1 :, 0]
    topk = None
    if k:
        top_ids = np.zeros((length, k), np.int32)
        top_values = np.full((length, k), MASKED_LOGPROB, np.float32)
        top_ids[first:], top_values[first:] = ids[first - 1 :, 1:], values[first - 1 :, 1:]
        topk = TopkLogprobs(top_ids, top_values)
    return (logprobs if job.prompt_logprobs else None), topk


def _flat(values: Sequence[float], shape: tuple[int, int], dtype: Any) -> Any:
    return np.array(values, dtype).reshape(shape)
