"""What can be asked of an engine: one struct a request, generic over its result."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from tinker_rl.types import (
    AdamParams,
    CheckpointsListResponse,
    Datum,
    ForwardBackwardOutput,
    GetInfoResponse,
    GetServerCapabilitiesResponse,
    LoadWeightsResponse,
    LoraConfig,
    ModelInput,
    OptimStepResponse,
    SampleResponse,
    SamplingClientKind,
    SamplingParams,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
    TrainingRun,
    TrainingRunsResponse,
    WeightsInfoResponse,
)

R = TypeVar("R")


class Request(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """A request whose result is an `R`."""


class ModelRequest(Request[R], Generic[R], frozen=True, kw_only=True):
    """A request to one training model; a model's requests are carried out in order."""

    model_id: str


# ------------------------------------------------------------------------------------- training


class CreateModel(Request[GetInfoResponse], frozen=True, kw_only=True):
    base_model: str
    lora_config: LoraConfig
    user_metadata: dict[str, str] | None = None


class CreateModelFromState(Request[GetInfoResponse], frozen=True, kw_only=True):
    path: str
    optimizer: bool
    """Whether the optimiser's moments and step count are taken over too."""
    base_model: str | None = None
    """Checked against the checkpoint's when given."""
    user_metadata: dict[str, str] | None = None


class GetInfo(Request[GetInfoResponse], frozen=True, kw_only=True):
    model_id: str


class ForwardBackward(ModelRequest[ForwardBackwardOutput], frozen=True, kw_only=True, eq=False):
    data: list[Datum]
    loss_fn: str
    loss_fn_config: dict[str, float | str] | None = None
    forward_only: bool = False


class OptimStep(ModelRequest[OptimStepResponse], frozen=True, kw_only=True):
    adam_params: AdamParams


class SaveState(ModelRequest[SaveWeightsResponse], frozen=True, kw_only=True):
    name: str
    ttl_seconds: int | None = None
    overwrite: bool = False
    user_metadata: dict[str, str] | None = None


class LoadState(ModelRequest[LoadWeightsResponse], frozen=True, kw_only=True):
    path: str
    optimizer: bool


class SaveWeightsForSampler(ModelRequest[SaveWeightsForSamplerResponse], frozen=True, kw_only=True):
    name: str
    ttl_seconds: int | None = None
    user_metadata: dict[str, str] | None = None


class PublishWeights(ModelRequest["SamplerInfo"], frozen=True, kw_only=True):
    """Make the present weights a sampler of their own, without writing a checkpoint."""

    kind: SamplingClientKind = "snapshot"


class UnloadModel(ModelRequest[None], frozen=True, kw_only=True):
    """Forget the model; its checkpoints stay."""


# ------------------------------------------------------------------------------------- sampling


class WeightSync(msgspec.Struct, frozen=True, kw_only=True):
    """How it was proved that a sampler has the weights that were published."""

    content_hash: str
    """Of the weights that the sampler holds, equal to that of those published."""
    max_abs_logprob_diff: float | None = None
    """Greatest difference of a probe's logprobs, learner against sampler, in nats; None where no
    learner had the weights (a checkpoint)."""
    score_seconds: float = 0.0
    """In which the learner scored the probe."""
    load_seconds: float = 0.0
    """In which the weights were written and loaded."""
    probe_seconds: float = 0.0
    """In which the sampler scored the probe."""


class SamplerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A sampler that requests can name."""

    sampler_id: str
    base_model: str
    model_path: str | None = None
    weight_sync: WeightSync | None = None
    """None for a base model."""


class CreateSampler(Request[SamplerInfo], frozen=True, kw_only=True):
    """Exactly one of the two, or both when they agree."""

    model_path: str | None = None
    base_model: str | None = None


class ReleaseSampler(Request[None], frozen=True, kw_only=True):
    """Nobody will use the sampler again; requests in flight still end."""

    sampler_id: str


class Sample(Request[SampleResponse], frozen=True, kw_only=True):
    sampler_id: str
    prompt: ModelInput
    num_samples: int
    sampling_params: SamplingParams
    prompt_logprobs: bool = False
    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0
    prompt_logprobs_last_n: int | None = None


# ------------------------------------------------------------------------- runs and checkpoints


class GetServerCapabilities(Request[GetServerCapabilitiesResponse], frozen=True, kw_only=True):
    pass


class ListTrainingRuns(Request[TrainingRunsResponse], frozen=True, kw_only=True):
    limit: int = 20
    offset: int = 0


class GetTrainingRun(Request[TrainingRun], frozen=True, kw_only=True):
    training_run_id: str


class ListCheckpoints(Request[CheckpointsListResponse], frozen=True, kw_only=True):
    """Of one run, or of all when `training_run_id` is None."""

    training_run_id: str | None = None
    limit: int | None = None
    offset: int = 0


class DeleteCheckpoint(Request[None], frozen=True, kw_only=True):
    path: str


class SetCheckpointTtl(Request[None], frozen=True, kw_only=True):
    path: str
    ttl_seconds: int | None
    """From now; None: never expires."""


class SetCheckpointPublic(Request[None], frozen=True, kw_only=True):
    path: str
    public: bool


class CopyWeights(Request[str], frozen=True, kw_only=True):
    path: str
    ttl_seconds: int | None = None


class GetWeightsInfo(Request[WeightsInfoResponse], frozen=True, kw_only=True):
    path: str
