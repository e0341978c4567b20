"""The Tinker fine-tuning system on your own hardware."""

from tinker_rl import openmp as _openmp  # noqa: F401, I001 - before anything imports torch
from tinker_rl.clients import RestClient, SamplingClient, ServiceClient, TrainingClient
from tinker_rl.futures import APIFuture
from tinker_rl.types import (
    AdamParams,
    Datum,
    EncodedTextChunk,
    ForwardBackwardOutput,
    LoraConfig,
    ModelInput,
    SampledSequence,
    SampleResponse,
    SamplingParams,
    TensorData,
)

__all__ = [
    "APIFuture",
    "AdamParams",
    "Datum",
    "EncodedTextChunk",
    "ForwardBackwardOutput",
    "LoraConfig",
    "ModelInput",
    "RestClient",
    "SampleResponse",
    "SampledSequence",
    "SamplingClient",
    "SamplingParams",
    "ServiceClient",
    "TensorData",
    "TrainingClient",
]
