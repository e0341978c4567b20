"""`checkpoints.jsonl`: which states of the run were saved, and from where to go on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tinker_rl.errors import CheckpointError
from tinker_rl.rl.files import JsonLines

if TYPE_CHECKING:
    from tinker_rl.clients import ServiceClient, TrainingClient

__all__ = [
    "CHECKPOINTS_FILE",
    "CheckpointLog",
    "CheckpointRecord",
    "load_newest",
    "save_checkpoint",
]

CHECKPOINTS_FILE = "checkpoints.jsonl"

logger = logging.getLogger(__name__)


class CheckpointRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One saved state of a run."""

    name: str
    batch: int
    """Batches committed; the one to train next."""
    state_path: str | None = None
    """Weights and optimiser, to train on from."""
    sampler_path: str | None = None
    """Adapter, to sample from."""
    final: bool = False
    """Whether the run ended here."""


class CheckpointLog:
    """The records of a run, oldest first."""

    def __init__(self, log_dir: Path) -> None:
        self._lines = JsonLines(log_dir / CHECKPOINTS_FILE)

    def read(self) -> list[CheckpointRecord]:
        """All records. Fields that this version does not know are left out."""
        return [msgspec.convert(record, CheckpointRecord) for record in self._lines.read()]

    def append(self, record: CheckpointRecord) -> None:
        """Add a record, of a state that is wholly saved."""
        self._lines.append(msgspec.to_builtins(record))

    def cut(self, batch: int) -> None:
        """Forget what was saved after `batch` batches: it could not be loaded."""
        records = self.read()
        if any(record.batch > batch for record in records):
            kept = [record for record in records if record.batch <= batch]
            self._lines.replace([msgspec.to_builtins(record) for record in kept])


async def save_checkpoint(
    training_client: TrainingClient,
    log: CheckpointLog,
    batch: int,
    metadata: Mapping[str, str],
    *,
    is_final: bool = False,
) -> CheckpointRecord:
    """Save the state of a model after `batch` batches, and record it once it is wholly saved."""
    name = "final" if is_final else f"{batch:06d}"
    metadata = {"step": str(batch), **metadata}
    save_state = training_client.save_state_async
    state = await save_state(name, overwrite=True, user_metadata=metadata)
    save_sampler = training_client.save_weights_for_sampler_async
    sampler = await save_sampler(name, user_metadata=metadata)
    record = CheckpointRecord(
        name=name,
        batch=batch,
        state_path=(await state).path,
        sampler_path=(await sampler).path,
        final=is_final,
    )
    log.append(record)
    return record


async def load_newest(
    service_client: ServiceClient, records: list[CheckpointRecord], base_model: str
) -> tuple[TrainingClient, CheckpointRecord] | None:
    """A model that goes on from the newest checkpoint that can be loaded; None without records.

    Raises:
        CheckpointError: if there are checkpoints and none can be loaded.
    """
    errors: list[CheckpointError] = []
    for record in reversed(records):
        if record.state_path is None:
            continue
        create = service_client.create_training_client_from_state_with_optimizer_async
        try:
            return await create(record.state_path, base_model), record
        except CheckpointError as error:
            logger.warning("Checkpoint %s cannot be loaded: %s", record.name, error)
            errors.append(error)
    if errors:
        raise CheckpointError(
            f"{CHECKPOINTS_FILE}: expected one of {len(errors)} checkpoints that can be loaded; "
            f"got none. The newest: {errors[0]} Set TINKER_RL_HOME as it was, or start afresh with "
            "behavior_if_log_dir_exists=delete."
        )
    return None
