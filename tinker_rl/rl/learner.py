"""One training step through a `TrainingClient`: requests queued back to back, then waited for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.rl.data import TrainingSequence
from tinker_rl.types import AdamParams

if TYPE_CHECKING:
    from tinker_rl.clients import TrainingClient

__all__ = ["LossConfig", "TrainStepOutput", "split_evenly", "train_step"]

Array: TypeAlias = npt.NDArray[Any]
T = TypeVar("T")

ADAM_EPS = 1e-8
"""As in the Tinker cookbook, which does not use the SDK's default of 1e-12."""


class LossConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to learn from a batch."""

    learning_rate: float
    loss_fn: str = "importance_sampling"
    loss_fn_config: Mapping[str, float | str] | None = None
    num_substeps: int = 1


class TrainStepOutput(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the learner said of a batch."""

    sequences: tuple[TrainingSequence, ...]
    """What was trained on, in this order."""
    learner_logprobs_D: tuple[Array, ...]
    """Of each sequence's target tokens, under the weights that its substep began with. Nats,
    float32, shape [T] each."""
    metrics: dict[str, float]
    """Of the losses and optimiser steps, `optim/<name>`."""


def split_evenly(items: Sequence[T], num_parts: int) -> list[Sequence[T]]:
    """Consecutive parts, no two of which differ in size by more than one; none is empty."""
    num_parts = min(num_parts, len(items))
    bounds = [len(items) * part // num_parts for part in range(num_parts + 1)] if items else []
    return [items[start:end] for start, end in pairwise(bounds)]


async def train_step(
    training_client: TrainingClient,
    groups_P: Sequence[Sequence[TrainingSequence]],
    config: LossConfig,
) -> TrainStepOutput:
    """Train on a batch: one `forward_backward` and one `optim_step` for each substep.

    All requests are queued before the first is waited for, so that the engine never idles between
    them. Cancelled, what was queued still takes effect.

    Args:
        groups_P: Training sequences of each group; a group is never split between substeps.
    """
    adam = AdamParams(learning_rate=config.learning_rate, eps=ADAM_EPS)
    substeps = [
        [sequence for group in part for sequence in group]
        for part in split_evenly([group for group in groups_P if group], config.num_substeps)
    ]
    queued = [
        (
            await training_client.forward_backward_async(
                [sequence.datum for sequence in sequences], config.loss_fn, config.loss_fn_config
            ),
            await training_client.optim_step_async(adam),
        )
        for sequences in substeps
    ]
    logprobs: list[Array] = []
    reported: list[Mapping[str, float]] = []
    for gradients, step in queued:
        output = await gradients
        logprobs += [entry["logprobs"].to_numpy() for entry in output.loss_fn_outputs]
        reported += [output.metrics, (await step).metrics or {}]
    return TrainStepOutput(
        sequences=tuple(sequence for sequences in substeps for sequence in sequences),
        learner_logprobs_D=tuple(logprobs),
        metrics={f"optim/{name}": value for name, value in reduce_metrics(reported).items()},
    )


_REDUCTIONS = {"": np.mean, "mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max}


def reduce_metrics(reported: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Metrics of several requests as one each, by the reduction that `name:reduction` asks for.

    What can only be told apart, and not reduced, is left out (`clock_cycle:unique`).
    """
    found: dict[str, list[float]] = defaultdict(list)
    for metrics in reported:
        for key, value in metrics.items():
            found[key].append(value)
    reduced: dict[str, float] = {}
    for key, values in found.items():
        name, _, reduction = key.partition(":")
        if reduction in _REDUCTIONS:
            reduced[name] = float(_REDUCTIONS[reduction](values))
    return reduced
