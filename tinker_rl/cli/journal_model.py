"""A run's model as it was at an earlier step, in an engine that leaves nothing behind.

The engine keeps its files in a temporary folder, into which the run's checkpoint is linked: the
store, and the run that may be going on, are only read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from tinker_rl.errors import CheckpointError, ConfigError
from tinker_rl.rl.checkpoints import CheckpointLog, CheckpointRecord
from tinker_rl.rl.log_dir import CONFIG_FILE

if TYPE_CHECKING:
    from tinker_rl.clients import ServiceClient, TrainingClient

__all__ = ["Beginning", "find_beginning", "open_model"]


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """From where a run's weights are computed again."""

    version: int
    """Batches that the weights were trained on."""
    checkpoint: CheckpointRecord | None = None
    """None: the weights that the run began with."""

    @property
    def description(self) -> str:
        """`checkpoint 000010`, or what stands for it."""
        return f"checkpoint {self.checkpoint.name}" if self.checkpoint else "the run's beginning"


class _RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's config says of the weights that it began with."""

    model_name: str
    lora_rank: int = 32
    seed: int = 0
    load_checkpoint_path: str | None = None


def find_beginning(log_dir: Path, step: int, warn: Callable[[str], None]) -> Beginning:
    """The newest whole checkpoint that a run saved at or before a step; reads all of its bytes.

    Args:
        log_dir: The run's folder.
        step: The step; a checkpoint from before it has `step` batches at most.
        warn: Is told of each checkpoint that is passed over.
    Raises:
        CheckpointError: if there are such checkpoints, and none of them is whole.
    """
    saved = [r for r in CheckpointLog(log_dir).read() if r.batch <= step and r.state_path]
    for record in sorted(saved, key=lambda record: record.batch, reverse=True):
        try:
            _folder_of(str(record.state_path))
        except CheckpointError as error:
            warn(f"checkpoint {record.name} is passed over: {error}")
            continue
        return Beginning(version=record.batch, checkpoint=record)
    if saved:
        raise CheckpointError(
            f"{log_dir}: expected one of the run's {len(saved)} checkpoints at or before step "
            f"{step} in the store; got none that is whole. The store is {_home()}: set "
            "TINKER_RL_HOME to the one that the run had."
        )
    return Beginning(version=0)


@asynccontextmanager
async def open_model(log_dir: Path, beginning: Beginning) -> AsyncGenerator[TrainingClient]:
    """The model in the state of `beginning`; its engine, and all its files, end with the block.

    Cancelled, the engine is closed too, which takes five seconds at most.

    Raises:
        CheckpointError: if a checkpoint is gone.
        ConfigError: if the run's config does not say which model it began with.
    """
    with TemporaryDirectory(prefix="tinker_rl-", ignore_cleanup_errors=True) as folder:
        service = await anyio.to_thread.run_sync(_open_service, folder)
        try:
            yield await _load(service, Path(folder), log_dir, beginning)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(service.close)


def _open_service(home: str) -> ServiceClient:
    from tinker_rl.clients import ServiceClient  # heavy
    from tinker_rl.engine.local import EngineOptions

    return ServiceClient(engine_options=EngineOptions(home=home, sampler="embedded"))


async def _load(
    service: ServiceClient, home: Path, log_dir: Path, beginning: Beginning
) -> TrainingClient:
    if beginning.checkpoint is not None:
        path = str(beginning.checkpoint.state_path)
        await anyio.to_thread.run_sync(_link, path, home)
        return await service.create_training_client_from_state_with_optimizer_async(path)
    options = _run_options(log_dir)
    if options.load_checkpoint_path is not None:
        path = options.load_checkpoint_path
        await anyio.to_thread.run_sync(_link, path, home)
        return await service.create_training_client_from_state_async(path)
    create = service.create_lora_training_client_async
    return await create(options.model_name, options.lora_rank, seed=options.seed)


def _run_options(log_dir: Path) -> _RunOptions:
    path = log_dir / CONFIG_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_RunOptions)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{path}: expected the run's options, which say how its weights began; got {error}. "
            "Put the file back, or choose a step after a checkpoint."
        ) from error


def _link(path: str, home: Path) -> None:
    """Make a checkpoint of the user's store one of the store in `home`."""
    from tinker_rl.engine.paths import parse_path

    parsed = parse_path(path)
    place = home / "runs" / parsed.run_id / parsed.kind / parsed.name
    place.parent.mkdir(parents=True)
    place.symlink_to(_folder_of(path), target_is_directory=True)


def _folder_of(path: str) -> Path:
    """Where a checkpoint lies, after checking every byte of it."""
    from tinker_rl.engine.checkpoints import Store
    from tinker_rl.engine.paths import parse_path

    folder, _ = Store(_home()).open(parse_path(path))
    return folder.resolve()


def _home() -> Path:
    from tinker_rl.engine.checkpoints import default_root

    return default_root()
