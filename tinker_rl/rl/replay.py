"""Training again on what the journal says was trained on: the same weights, without sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from tinker_rl.errors import JournalError
from tinker_rl.rl.batch_training import train_batch
from tinker_rl.rl.journal import CommitRecord, GroupRecord, Journal
from tinker_rl.rl.learner import TrainStepOutput

if TYPE_CHECKING:
    from tinker_rl.clients import TrainingClient

__all__ = ["replay_step"]


async def replay_step(
    training_client: TrainingClient, journal: Journal, commit: CommitRecord
) -> tuple[list[GroupRecord], TrainStepOutput | None]:
    """Train a step once more, on a model that has the weights it began with.

    On a device that computes alike twice, the model then has the very weights that the step made
    the first time.

    Returns:
        The groups, in the order in which they trained, and what the learner said; None where there
        was nothing to train on.
    Raises:
        JournalError: if a group is damaged, or the commit does not say how it trained.
    """
    if commit.training is None:
        raise JournalError(
            f"{journal.path}: expected step {commit.step} to say how it trained; got a commit "
            "without it. It cannot be replayed."
        )

    def read() -> list[GroupRecord]:
        return [journal.read_group(group) for group in commit.groups]

    records = await anyio.to_thread.run_sync(read)
    return records, await train_batch(training_client, records, commit.training, commit.step)
