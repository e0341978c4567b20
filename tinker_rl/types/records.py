"""What is known of models, runs and checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from tinker_rl.types.results import Response

__all__ = [
    "Checkpoint",
    "CheckpointType",
    "CheckpointsListResponse",
    "Cursor",
    "GetInfoResponse",
    "GetServerCapabilitiesResponse",
    "ModelData",
    "SupportedModel",
    "TrainingRun",
    "TrainingRunsResponse",
    "WeightsInfoResponse",
]

CheckpointType: TypeAlias = Literal["training", "sampler"]


class SupportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A base model, and whether it can be had on this machine."""

    model_name: str
    max_context_length: int | None = None
    trainable: bool = True
    sampleable: bool = True
    unavailable_reason: str | None = None
    """Why asking for the model would fail here; None when it can be had, as far as is known."""


class GetServerCapabilitiesResponse(Response, frozen=True, kw_only=True):
    supported_models: list[SupportedModel]


class ModelData(msgspec.Struct, frozen=True, kw_only=True):
    arch: str | None = None
    model_name: str | None = None
    tokenizer_id: str | None = None


class GetInfoResponse(Response, frozen=True, kw_only=True):
    model_id: str
    model_data: ModelData
    is_lora: bool = True
    lora_rank: int | None = None
    model_name: str | None = None


class WeightsInfoResponse(Response, frozen=True, kw_only=True):
    base_model: str
    is_lora: bool = True
    lora_rank: int | None = None
    train_unembed: bool | None = None
    train_mlp: bool | None = None
    train_attn: bool | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    checkpoint_id: str
    """`weights/<name>` or `sampler_weights/<name>`."""
    checkpoint_type: CheckpointType
    time: datetime
    tinker_path: str
    size_bytes: int | None = None
    public: bool = False
    user_metadata: dict[str, str] | None = None
    expires_at: datetime | None = None


class TrainingRun(Response, frozen=True, kw_only=True):
    training_run_id: str
    base_model: str
    model_owner: str
    is_lora: bool
    last_request_time: datetime
    corrupted: bool = False
    lora_rank: int | None = None
    last_checkpoint: Checkpoint | None = None
    last_sampler_checkpoint: Checkpoint | None = None
    user_metadata: dict[str, str] | None = None


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    offset: int
    limit: int
    total_count: int


class TrainingRunsResponse(Response, frozen=True, kw_only=True):
    training_runs: list[TrainingRun]
    cursor: Cursor


class CheckpointsListResponse(Response, frozen=True, kw_only=True):
    checkpoints: list[Checkpoint]
    cursor: Cursor | None = None
