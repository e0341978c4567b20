"""The Tinker fine-tuning system on your own hardware."""

# First of all, since torch must not be imported before it.
import tinker_rl.openmp  # noqa: F401  # pyright: ignore[reportUnusedImport]
from tinker_rl.clients import RestClient, SamplingClient, ServiceClient, TrainingClient
from tinker_rl.futures import APIFuture
from tinker_rl.losses import register_loss
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
    "register_loss",
]
