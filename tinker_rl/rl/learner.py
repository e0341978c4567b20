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
    from tinker_rl.futures import APIFuture
    from tinker_rl.types import ForwardBackwardOutput, OptimStepResponse

__all__ = ["LossConfig", "TrainStepOutput", "TrainingQueue", "split_evenly", "train_step"]

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
    queue = TrainingQueue(training_client, config)
    for part in split_evenly([group for group in groups_P if group], config.num_substeps):
        await queue.forward_backward([sequence for group in part for sequence in group])
        await queue.optim_step()
    return await queue.result()


class TrainingQueue:
    """Requests of one batch to the learner: queued as they come, waited for together.

    Cancelled, what was queued still takes effect.
    """

    def __init__(self, training_client: TrainingClient, config: LossConfig) -> None:
        self._client = training_client
        self._config = config
        self._adam = AdamParams(learning_rate=config.learning_rate, eps=ADAM_EPS)
        self._sequences: list[TrainingSequence] = []
        self._gradients: list[APIFuture[ForwardBackwardOutput]] = []
        self._steps: list[APIFuture[OptimStepResponse]] = []
        self._owes_step = False

    async def forward_backward(self, sequences: Sequence[TrainingSequence]) -> None:
        """Add the gradient of these sequences; nothing where there are none."""
        if not sequences:
            return
        config = self._config
        data = [sequence.datum for sequence in sequences]
        options = dict(config.loss_fn_config) if config.loss_fn_config is not None else None
        request = self._client.forward_backward_async
        self._gradients.append(await request(data, config.loss_fn, options))
        self._sequences += sequences
        self._owes_step = True

    async def optim_step(self) -> None:
        """Step on the gradients since the last step; nothing where there are none."""
        if self._owes_step:
            self._steps.append(await self._client.optim_step_async(self._adam))
            self._owes_step = False

    async def result(self) -> TrainStepOutput:
        """Wait for all that was queued, and say how it went."""
        logprobs: list[Array] = []
        reported: list[Mapping[str, float]] = []
        for gradient in self._gradients:
            output = await gradient
            logprobs += [entry["logprobs"].to_numpy() for entry in output.loss_fn_outputs]
            reported.append(output.metrics)
        for step in self._steps:
            reported.append((await step).metrics or {})
        return TrainStepOutput(
            sequences=tuple(self._sequences),
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
