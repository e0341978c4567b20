"""Training on a batch of finished groups, whole or minibatch by minibatch.

What a batch does to the weights depends on its records and on `TrainingOptions` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tinker_rl.rl.advantages import compute_advantages, has_constant_reward
from tinker_rl.rl.data import UNKNOWN_VERSION, TrainingSequence, assemble_training_data
from tinker_rl.rl.journal.records import GroupRecord, TrainingOptions
from tinker_rl.rl.kl_penalty import apply_kl_penalty
from tinker_rl.rl.learner import LossConfig, TrainingQueue, TrainStepOutput, split_evenly
from tinker_rl.rl.outcomes import RolledOutGroup
from tinker_rl.types import Datum, ModelInput, TensorData

if TYPE_CHECKING:
    from tinker_rl.clients import TrainingClient

__all__ = ["BatchTrainer", "check_loss", "mask_over_age", "train_batch", "training_data"]


async def train_batch(
    training_client: TrainingClient,
    records: Sequence[GroupRecord],
    options: TrainingOptions,
    policy_version: int,
) -> TrainStepOutput | None:
    """Train on the groups of a batch, in order, with the same requests as when it was streamed.

    Cancelled, what was queued still takes effect.

    Returns:
        What the learner said; None where there was nothing to train on.
    """
    trainer = BatchTrainer(training_client, options, policy_version)
    for part in split_evenly(records, options.num_parts):
        await trainer.add(part)
    return await trainer.result()


async def check_loss(training_client: TrainingClient, options: TrainingOptions) -> None:
    """Ask the engine to score one token with a loss, before anything is sampled for it.

    Raises:
        RequestError: if the engine does not have the loss, or not with these options.
    """
    datum = Datum(
        model_input=ModelInput.from_ints([0]),
        loss_fn_inputs={"target_tokens": [0], "logprobs": [0.0], "advantages": [1.0]},
    )
    request = training_client.forward_async
    await (await request([datum], options.loss_fn, options.loss_fn_config))


class BatchTrainer:
    """One batch on its way through the learner.

    Args:
        training_client: The model.
        options: How to train.
        policy_version: Version of the weights that the batch trains.
    """

    def __init__(
        self, training_client: TrainingClient, options: TrainingOptions, policy_version: int
    ) -> None:
        self._options = options
        self._policy_version = policy_version
        self._num_parts = 0
        self._metrics: list[Mapping[str, float]] = []
        self._queue = TrainingQueue(
            training_client,
            LossConfig(
                learning_rate=options.learning_rate,
                loss_fn=options.loss_fn,
                loss_fn_config=options.loss_fn_config,
                num_substeps=options.num_substeps,
            ),
        )

    async def add(self, records: Sequence[GroupRecord]) -> None:
        """Queue the work of the next minibatch, or of the whole batch where it is not split."""
        groups, metrics = training_data(records, self._options, self._policy_version)
        self._metrics.append(metrics)
        self._num_parts += 1
        num_minibatches = self._options.num_minibatches
        if num_minibatches is not None:
            await self._queue.forward_backward([s for group in groups for s in group])
            if self._num_parts % num_minibatches == 0:
                await self._queue.optim_step()
            return
        for part in split_evenly([group for group in groups if group], self._options.num_substeps):
            await self._queue.forward_backward([s for group in part for s in group])
            await self._queue.optim_step()

    async def result(self) -> TrainStepOutput | None:
        """What the learner said, once all parts are added; None if there was nothing to train."""
        output = await self._queue.result()
        if not output.sequences:
            return None
        names = dict.fromkeys(name for metrics in self._metrics for name in metrics)
        means = {
            name: float(np.mean([m[name] for m in self._metrics if name in m])) for name in names
        }
        return msgspec.structs.replace(output, metrics={**output.metrics, **means})


def training_data(
    records: Sequence[GroupRecord], options: TrainingOptions, policy_version: int
) -> tuple[list[list[TrainingSequence]], dict[str, float]]:
    """The training sequences of each group that has any to train, and metrics of making them."""
    kept = [
        (record, record.outcome.group)
        for record in records
        if isinstance(record.outcome, RolledOutGroup)
        and not (
            options.remove_constant_reward_groups and has_constant_reward(record.outcome.group)
        )
    ]
    groups = [group for _, group in kept]
    numbers = [record.group for record, _ in kept]
    data = assemble_training_data(groups, compute_advantages(groups), numbers)
    metrics: dict[str, float] = {}
    if options.kl_penalty_coef:
        references = [
            [logprobs for member in record.reference_logprobs or () for logprobs in member]
            for record, _ in kept
        ]
        data, metrics = apply_kl_penalty(
            data, references, options.kl_penalty_coef, options.kl_discount_factor
        )
    if options.max_token_age is not None:
        oldest = policy_version - options.max_token_age
        data = [[mask_over_age(sequence, oldest) for sequence in group] for group in data]
        data = [[s for s in group if s.num_action_tokens] for group in data]
    return data, metrics


def mask_over_age(sequence: TrainingSequence, oldest_version: int) -> TrainingSequence:
    """The sequence without loss on tokens of versions below `oldest_version`."""
    versions = sequence.policy_version_T
    is_over_age = (versions != UNKNOWN_VERSION) & (versions < oldest_version)
    if not (is_over_age & sequence.loss_mask_T).any():
        return sequence
    inputs = dict(sequence.datum.loss_fn_inputs)
    advantages = np.where(is_over_age, np.float32(0), inputs["advantages"].to_numpy())
    inputs["advantages"] = TensorData(advantages.astype(np.float32))
    return msgspec.structs.replace(
        sequence,
        datum=msgspec.structs.replace(sequence.datum, loss_fn_inputs=inputs),
        loss_mask_T=sequence.loss_mask_T & ~is_over_age,
    )
