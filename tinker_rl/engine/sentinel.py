"""Proves that a sampler has the weights that a learner published: by content hash and by probe.

The hash says that the very bytes arrived. The probe says that they act as they do in the learner:
a few fixed texts are scored on both sides. Neither is enough. In bfloat16 two engines differ by
more than one optimiser step changes, so a stale adapter passes the probe; and an adapter that is
right to the bit is of no use to an engine that drops a layer, or scales it otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from tinker_rl.engine.content_hash import content_hash
from tinker_rl.engine.learner import Learner
from tinker_rl.engine.lora import lora_scale
from tinker_rl.engine.samplers.base import AdapterWeights, SampleJob, StopRule
from tinker_rl.errors import WeightSyncError
from tinker_rl.types import Datum, ModelInput, SampleResponse

__all__ = [
    "Probe",
    "Snapshot",
    "check_hash",
    "check_probe",
    "not_loaded",
    "probe_jobs",
    "probe_prompts",
    "probe_tolerance",
    "score_probe",
    "take_snapshot",
]

_TEXTS = (
    "What is 37 + 48? 37 plus 48 is 85.\nThe answer is \\boxed{85}.",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "The old bridge was closed in winter, so we walked along the river to the next town.",
)
_MOST_TOKENS = 64
"""Of one text."""


class Probe(msgspec.Struct, frozen=True, eq=False):
    """Texts, and what the learner thinks of them under the weights that are published."""

    prompts: tuple[tuple[int, ...], ...]
    logprobs: tuple[npt.NDArray[np.float32], ...]
    """Of each text's tokens after the first, shape [T - 1]."""


class Snapshot(msgspec.Struct, frozen=True, eq=False):
    """Weights as they are published, with what proves them."""

    weights: AdapterWeights
    probe: Probe
    score_seconds: float
    """In which the weights were hashed and the probe was scored."""


def probe_tolerance(dtype: torch.dtype) -> float:
    """Greatest difference of a logprob, in nats, between two engines that are right.

    Seen in float32: 1e-6, and 2e-5 where logits are sharp; in bfloat16 about 2e-2 on average and
    several times that at the largest of some hundred tokens.
    """
    return 1e-3 if dtype == torch.float32 else 0.25


def probe_prompts(
    encode: Callable[[str], Sequence[int]], context: int
) -> tuple[tuple[int, ...], ...]:
    """The probe's texts as tokens, cut to what the model takes with an answer of one token."""
    most = min(_MOST_TOKENS, context - 1)
    tokens = (tuple(encode(text))[:most] for text in _TEXTS)
    return tuple(prompt for prompt in tokens if len(prompt) > 1)


def take_snapshot(learner: Learner, name: str, prompts: Sequence[Sequence[int]]) -> Snapshot:
    """The weights of an adapter as they are now, and the learner's scores under them."""
    began = time.monotonic()
    tensors = learner.weights(name)
    scale = lora_scale(learner.adapter(name).config)
    weights = AdapterWeights(tensors, scale, content_hash(tensors))
    probe = score_probe(learner, name, prompts)
    return Snapshot(weights, probe, time.monotonic() - began)


def score_probe(learner: Learner, name: str, prompts: Sequence[Sequence[int]]) -> Probe:
    """Score the texts with the adapter as it is now. Nothing that waits for a step is touched."""
    data = [
        Datum(ModelInput.from_ints(list(p[:-1])), {"target_tokens": list(p[1:])}) for p in prompts
    ]
    steps = learner.forward_backward(name, data, "cross_entropy", forward_only=True)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            outputs = end.value.loss_fn_outputs
            break
    logprobs = tuple(output["logprobs"].to_numpy() for output in outputs)
    return Probe(tuple(map(tuple, prompts)), logprobs)


def probe_jobs(probe: Probe, version: str, job_ids: Sequence[int]) -> list[SampleJob]:
    """Jobs by which a sampler scores the texts."""
    return [
        SampleJob(
            job_id=job_id,
            version=version,
            prompt=prompt,
            num_samples=1,
            max_tokens=1,
            seed=0,
            stop=StopRule(),
            temperature=1.0,
            top_k=-1,
            top_p=1.0,
            prompt_logprobs=True,
            is_probe=True,
        )
        for job_id, prompt in zip(job_ids, probe.prompts, strict=True)
    ]


def not_loaded(version: str, reason: str) -> WeightSyncError:
    """The error of a sampler that did not take the weights."""
    return WeightSyncError(
        f"publish: expected the sampler to load version {version}; got {reason}. Nothing was "
        "sampled from it. Likely causes: a full disk or shared memory, an adapter whose targets "
        "the sampler does not know, a version of vLLM that was not tested. `python -m tinker_rl "
        "doctor` checks the installation.",
        version=version,
    )


def check_hash(weights: AdapterWeights, loaded_hash: str) -> None:
    """
    Raises:
        WeightSyncError: if other weights were loaded than were published.
    """
    if loaded_hash != weights.content_hash:
        raise WeightSyncError(
            f"publish: expected the sampler to hold weights of hash {weights.content_hash[:16]}; "
            f"got {loaded_hash[:16]} under the name of version {weights.version}. Nothing was "
            "sampled from it. Likely causes: the adapter's files were changed or damaged on their "
            "way, or the sampler serves an older version.",
            version=weights.version,
        )


def check_probe(
    version: str, probe: Probe, responses: Sequence[SampleResponse], tolerance: float
) -> float:
    """Compare both sides' logprobs; returns the greatest absolute difference, in nats.

    Raises:
        WeightSyncError: if it is beyond the tolerance, or not a number.
    """
    difference = 0.0
    for learner, response in zip(probe.logprobs, responses, strict=True):
        assert response.prompt_logprobs_np is not None
        gap = np.abs(response.prompt_logprobs_np[1:].astype(np.float64) - learner)
        # A comparison that is false of NaN: it must not pass for agreement.
        difference = float(np.max([difference, *gap])) if gap.size else difference
    if not difference <= tolerance:
        raise WeightSyncError(
            f"publish: expected the sampler's logprobs of the probe within {tolerance:g} of the "
            f"learner's; got {difference:.3g} for version {version}, though its hash is right. "
            "Nothing was sampled from it. Likely causes: a layer or a scale that the sampler "
            "applies otherwise, base weights of another model or revision, or another dtype "
            "(EngineOptions.sync_tolerance sets the bound).",
            version=version,
            difference=difference,
        )
    return difference
