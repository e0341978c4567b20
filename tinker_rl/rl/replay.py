"""Training again on what the journal says was trained on: the same weights, without sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from tinker_rl.errors import JournalError, UnsupportedError
from tinker_rl.rl.batch_training import train_batch
from tinker_rl.rl.journal import CommitRecord, GroupRecord, Journal
from tinker_rl.rl.learner import TrainStepOutput
from tinker_rl.rl.step_metrics import batch_metrics

if TYPE_CHECKING:
    from tinker_rl.clients import TrainingClient

__all__ = ["RecomputedStep", "commits_to_replay", "recompute_step", "replay_step", "weight_hash"]


async def replay_step(
    training_client: TrainingClient, journal: Journal, commit: CommitRecord
) -> tuple[list[GroupRecord], TrainStepOutput | None]:
    """Train a step once more, on a model that has the weights it began with.

    On a device that computes alike twice, the model then has the very weights that the step made
    the first time. Cancelled, what was queued still takes effect.

    Returns:
        The groups, in the order in which they trained, and what the learner said; None where there
        was nothing to train on.
    Raises:
        JournalError: if a group is damaged, or the commit does not say how it trained.
    """
    if commit.training is None:
        raise _untold(journal, commit)

    def read() -> list[GroupRecord]:
        return [journal.read_group(group) for group in commit.groups]

    records = await anyio.to_thread.run_sync(read)
    return records, await train_batch(training_client, records, commit.training, commit.step)


class RecomputedStep(msgspec.Struct, frozen=True, kw_only=True):
    """What a step gave when it was trained once more."""

    step: int
    metrics: dict[str, float]
    """As in `metrics.jsonl`, less what depends on the clock or on publishing."""


async def recompute_step(
    training_client: TrainingClient, journal: Journal, commit: CommitRecord
) -> RecomputedStep:
    """`replay_step`, with the numbers that the step wrote down the first time.

    Cancelled, what was queued still takes effect.
    """
    records, trained = await replay_step(training_client, journal, commit)
    outcomes = [record.outcome for record in records]
    metrics = batch_metrics(
        outcomes,
        trained,
        policy_version=commit.step,
        max_token_age=commit.training.max_token_age if commit.training else None,
    )
    timeless = {name: value for name, value in metrics.items() if not name.startswith("time/")}
    return RecomputedStep(step=commit.step, metrics=timeless)


async def weight_hash(training_client: TrainingClient) -> str | None:
    """Of the model's weights, as commits record it; None where no sampler here runs the model."""
    try:
        client = await training_client.save_weights_and_get_sampling_client_async()
    except UnsupportedError:
        return None
    return client.weight_sync.content_hash if client.weight_sync else None


def commits_to_replay(journal: Journal, step: int, first: int) -> Sequence[CommitRecord]:
    """The commits of the steps `first` to `step`, in order; the last is that of `step`.

    Args:
        first: Version of the weights to begin with, `step` at most.
    Raises:
        JournalError: if one of the steps is not there, or does not say how it trained.
    """
    commits = {commit.step: commit for commit in journal.commits}
    missing = [number for number in range(first, step + 1) if number not in commits]
    if missing:
        raise JournalError(
            f"{journal.path}: expected every step from {first} to {step}; got none of number "
            f"{missing[0]}. Weights that older steps made cannot be computed again without a "
            "checkpoint of them."
        )
    wanted = [commits[number] for number in range(first, step + 1)]
    for commit in wanted:
        if commit.training is None:
            raise _untold(journal, commit)
    return wanted


def _untold(journal: Journal, commit: CommitRecord) -> JournalError:
    return JournalError(
        f"{journal.path}: expected step {commit.step} to say how it trained; got a commit "
        "without it. It cannot be replayed."
    )
