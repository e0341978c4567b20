"""Reinforcement learning: `train(config)` from a script, `await main(config)` from async code."""

from __future__ import annotations

import logging
import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec
from rich.console import Console

from tinker_rl.envs import RLDataset
from tinker_rl.errors import CheckpointError
from tinker_rl.rl.checkpoints import (
    CHECKPOINTS_FILE,
    CheckpointLog,
    CheckpointRecord,
    load_newest,
    save_checkpoint,
)
from tinker_rl.rl.config import Config
from tinker_rl.rl.files import JsonLines
from tinker_rl.rl.interrupts import only_error, watch_signals
from tinker_rl.rl.journal import JOURNAL_FILE, Journal
from tinker_rl.rl.log_dir import (
    METRICS_FILE,
    check_log_dir,
    dump_config,
    lock_log_dir,
    options_hash,
    prepare_log_dir,
)
from tinker_rl.rl.loggers import RowLog, make_loggers
from tinker_rl.rl.past import Past
from tinker_rl.rl.problems import NumberedGroups
from tinker_rl.rl.progress import RunProgress
from tinker_rl.rl.replay import replay_step
from tinker_rl.rl.run import Run

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient, ServiceClient, TrainingClient

__all__ = ["RunSummary", "main", "train"]

logger = logging.getLogger(__name__)


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands when `train` returns."""

    log_path: str
    num_steps_done: int
    interrupted: bool
    """Whether Ctrl-C, or a request to terminate, ended it early."""
    first_evaluation: dict[str, Any]
    """The first row of `metrics.jsonl` with held-out metrics, such as `test/env/all/correct`;
    empty if there is none."""
    last_evaluation: dict[str, Any]
    """The last such row."""
    checkpoint: CheckpointRecord | None
    """The newest one."""


def train(config: Config, service_client: ServiceClient | None = None) -> RunSummary:
    """Run, or go on with, the run that `config` describes. See `main`."""
    return anyio.run(main, config, service_client, backend="trio")


async def main(config: Config, service_client: ServiceClient | None = None) -> RunSummary:
    """Run, or go on with, the run that `config` describes.

    A run that was interrupted or killed goes on from its newest checkpoint when `main` is called
    with the same config: rows of `metrics.jsonl` after it are cut and made again, the same as they
    were as far as the sampler is reproducible.

    The first Ctrl-C (or SIGTERM) finishes the learner's present step, saves it and returns; the
    second stops at once. Cancelled from outside, it saves nothing.

    Args:
        config: Options.
        service_client: The engine to use; None opens one, and closes it in the end.
    Raises:
        ConfigError: if the options do not fit, or `log_path` holds another run.
        CheckpointError: if the run has checkpoints, none of which can be loaded.
        EnvError, CompleterError: if too many groups failed.
        WeightSyncError: if the sampler does not have a version's weights as the learner does, and
            `on_weight_sync_error` does not let the run go on. What was trained is saved.
    """
    check_log_dir(config.log_dir, dump_config(config), config.behavior_if_log_dir_exists)
    start = _Start(config, service_client)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch_signals, start.interrupt)
            await start.go()
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise only_error(group) from None
    return start.summary()


class _Start:
    """One start of a run, until it ends, fails or is interrupted."""

    def __init__(self, config: Config, service_client: ServiceClient | None) -> None:
        self._config = config
        self._service_client = service_client
        self._console = Console()
        self._options_hash = options_hash(dump_config(config))
        path = config.log_dir / METRICS_FILE  # the journal has all that is in it
        self._rows = JsonLines(path, survives_power_loss=False)
        self._checkpoints = CheckpointLog(config.log_dir)
        self._work = anyio.CancelScope()
        self._saving = anyio.CancelScope()
        self._closing = anyio.CancelScope(shield=True)
        self._row_log: RowLog | None = None
        self._run: Run | None = None
        self._num_interrupts = 0

    def interrupt(self) -> None:
        """Stop after the learner's present step; the second time, at once."""
        self._num_interrupts += 1
        self._work.cancel()
        if self._num_interrupts > 1 or (self._row_log is not None and self._row_log.is_closing):
            self._closing.cancel()
        if self._num_interrupts == 1:
            is_learning = self._run is not None and self._run.is_committing
            doing = "finishing the step under way" if is_learning else "stopping"
            self._say(f"interrupted: {doing} (Ctrl-C again to stop at once)")
        else:
            self._saving.cancel()
            if self._run is not None:
                self._run.stop_at_once()

    async def go(self) -> None:
        """Open an engine where none was given, and run."""
        if self._service_client is not None:
            return await self._go(self._service_client)
        service = await _open_service(self._config)
        try:
            return await self._go(service)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(service.close)

    async def _go(self, service: ServiceClient) -> None:
        try:
            await self._train_and_save(service)
        finally:
            if self._row_log is not None:
                with self._closing:
                    await self._row_log.aclose()

    async def _train_and_save(self, service: ServiceClient) -> None:
        try:
            with self._work:
                await self._train(service)
        except Exception:
            await self._save_although_it_failed()
            raise
        if self._num_interrupts:
            with self._saving:
                await self._save()
            self._say(f"stopped after step {self._num_steps_done()}; run the same command to go on")

    async def _train(self, service: ServiceClient) -> None:
        config = self._config
        train_dataset, test_dataset = await config.dataset_builder()
        groups = NumberedGroups(train_dataset, config.num_epochs)
        num_steps = groups.num_batches
        config.schedule.check_batch_size(groups.groups_per_batch)
        if config.max_steps is not None:
            if config.max_steps > num_steps:
                self._say(
                    f"the dataset has {num_steps} batches (num_epochs={config.num_epochs}), so the "
                    f"run has as many steps, not max_steps={config.max_steps}"
                )
            num_steps = min(num_steps, config.max_steps)
        if self._is_complete(num_steps, test_dataset):
            self._say(f"this run is complete: {num_steps} steps in {config.log_path}")
            return
        prepare_log_dir(config.log_dir, dump_config(config))
        with lock_log_dir(config.log_dir), self._open_journal() as journal:
            if not _is_of_other_options(journal, self._options_hash):
                await self._train_alone(service, journal, groups, test_dataset, num_steps)
                return
            await self._finish_other(service, journal)
            with self._open_journal() as fresh:
                await self._train_alone(service, fresh, groups, test_dataset, num_steps)

    def _open_journal(self) -> Journal:
        journal = Journal.open(self._config.log_dir / JOURNAL_FILE)
        if journal.torn is not None:
            self._say(
                f"the last record of {journal.path} was torn by a kill: {journal.torn.num_bytes} "
                f"bytes at offset {journal.torn.offset} are cut off; what they held is done again"
            )
        return journal

    async def _finish_other(self, service: ServiceClient, journal: Journal) -> None:
        """Bring the model to where other options left it, save it, and put their journal aside."""
        client, batch = await self._training_client(service, journal)
        past = Past.of(journal, batch)
        for commit in past.commits:
            if commit.step >= batch:
                self._say(f"replaying step {commit.step} under the options it was committed with")
                await replay_step(client, journal, commit)
        if past.num_committed > batch:
            await save_checkpoint(
                client, self._checkpoints, past.num_committed, self._config.checkpoint_metadata
            )
        journal.close()
        kept = _free_name(journal.path)
        os.replace(journal.path, kept)
        self._say(
            f"the options changed, so groups that were sampled under the old ones and not trained "
            f"on are left out; the journal so far is kept as {kept.name}"
        )

    async def _train_alone(
        self,
        service: ServiceClient,
        journal: Journal,
        groups: NumberedGroups,
        test_dataset: RLDataset | None,
        num_steps: int,
    ) -> None:
        """Go on from the newest checkpoint and the journal, in a folder that is ours alone."""
        config = self._config
        self._say(f"loading {config.model_name} ...")
        client, batch = await self._training_client(service, journal)
        past = Past.of(journal, batch)
        self._rebuild_rows(past)
        if past.num_committed:
            self._say(
                f"going on after step {past.num_committed} of {num_steps}"
                + (f", from a checkpoint of step {batch} and the journal" if past.commits else "")
            )
        title = f"{config.model_name}, {config.log_path}"
        with RunProgress(num_steps, past.num_committed, self._console, title) as progress:
            progress.remember(self._rows.read())
            untrained = journal.finished_groups() - journal.trained_groups()
            progress.expect_groups(groups.groups_per_batch, untrained, config.schedule.straggler)
            self._row_log = RowLog(
                self._rows,
                make_loggers(config.loggers),
                config.recipe_name,
                dump_config(config),
                self._say,
            )
            self._run = Run(
                config,
                service,
                client,
                groups,
                test_dataset,
                journal,
                self._row_log,
                options_hash=self._options_hash,
                num_steps=num_steps,
                checkpoint_batch=batch,
                reference=await _open_reference(config, service),
                progress=progress,
            )
            await self._run.go()

    def _is_complete(self, num_steps: int, test_dataset: RLDataset | None) -> bool:
        """Whether nothing is left to do: all is committed, acts, is saved and is evaluated."""
        records = self._checkpoints.read()
        path = self._config.log_dir / JOURNAL_FILE
        if not records or not path.exists():
            return False
        with Journal.read(path) as journal:
            if _is_of_other_options(journal, self._options_hash):
                return records[-1].batch >= num_steps and records[-1].final
            past = Past.of(journal, records[-1].batch)
        if past.num_committed > num_steps:
            return True
        acts = not past.commits or past.commits[-1].acting_version == past.num_committed
        evaluates = bool(test_dataset is not None or self._config.evaluator_builders)
        owes = evaluates and self._config.eval_every and num_steps not in past.evaluations
        return past.num_committed == num_steps and acts and records[-1].final and not owes

    async def _training_client(
        self, service: ServiceClient, journal: Journal
    ) -> tuple[TrainingClient, int]:
        """The model, and the step to start at: from the newest checkpoint, or afresh."""
        config = self._config
        first = self._checkpoints_fit(journal)
        records = [record for record in self._checkpoints.read() if record.batch >= first]
        found = await load_newest(service, records, config.model_name)
        if found is not None:
            client, record = found
            return client, record.batch
        if first:
            raise CheckpointError(
                f"{CHECKPOINTS_FILE}: expected a checkpoint of step {first}, with which "
                f"{journal.path.name} begins, or of a later one; got none. Put the older journal "
                "back in its place, or start afresh with behavior_if_log_dir_exists=delete."
            )
        metadata = {"recipe_name": config.recipe_name}
        if config.load_checkpoint_path is not None:
            load = service.create_training_client_from_state_async
            return await load(config.load_checkpoint_path, user_metadata=metadata), 0
        create = service.create_lora_training_client_async
        model = await create(
            config.model_name, config.lora_rank, seed=config.seed, user_metadata=metadata
        )
        return model, 0

    def _checkpoints_fit(self, journal: Journal) -> int:
        """Leave out checkpoints of steps that the journal lost; the step that it begins with."""
        if not journal.starts:
            return 0
        past = Past.of(journal, 0)
        if any(record.batch > past.num_committed for record in self._checkpoints.read()):
            self._say(
                f"checkpoints after step {past.num_committed} are left out, since {journal.path} "
                "ends there; the steps after it are done again"
            )
            self._checkpoints.cut(past.num_committed)
        return past.first_version

    def _rebuild_rows(self, past: Past) -> None:
        """Make the rows what the journal says: a kill may have come between the two."""
        written = self._rows.read()
        rows = [row for row in written if row["step"] < past.first_version] + past.rows()
        if msgspec.json.encode(written) != msgspec.json.encode(rows):
            self._rows.replace(rows)

    async def _save(self) -> None:
        if self._run is not None:
            await self._run.save()

    async def _save_although_it_failed(self) -> None:
        """Save committed steps; it is the run's own error that counts, not one of saving."""
        try:
            await self._save()
        except Exception as error:
            logger.warning("After the run failed, saving failed too: %s", error)

    def _num_steps_done(self) -> int:
        if self._run is not None:
            return self._run.num_committed
        return max((record.batch for record in self._checkpoints.read()), default=0)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def summary(self) -> RunSummary:
        """How the run stands now."""
        evaluations = [
            row for row in self._rows.read() if any(key.startswith("test/") for key in row)
        ]
        records = self._checkpoints.read()
        return RunSummary(
            log_path=self._config.log_path,
            num_steps_done=self._num_steps_done(),
            interrupted=self._num_interrupts > 0,
            first_evaluation=evaluations[0] if evaluations else {},
            last_evaluation=evaluations[-1] if evaluations else {},
            checkpoint=records[-1] if records else None,
        )


async def _open_service(config: Config) -> ServiceClient:
    from tinker_rl.clients import ServiceClient  # heavy: it may start an engine
    from tinker_rl.clients.factory import deterministic_options

    def open_client() -> ServiceClient:
        is_local = config.base_url is None and not os.environ.get("TINKER_BASE_URL")
        if is_local and config.schedule.lag == "fixed":
            return ServiceClient(engine_options=deterministic_options())
        return ServiceClient(base_url=config.base_url)

    return await anyio.to_thread.run_sync(open_client)


async def _open_reference(config: Config, service: ServiceClient) -> SamplingClient | None:
    """The weights that the policy is kept close to, if it is."""
    if config.kl_penalty_coef == 0:
        return None
    reference = config.kl_reference_config
    path = reference.load_checkpoint_path if reference is not None else None
    if path is not None:
        return await service.create_sampling_client_async(model_path=path)
    return await service.create_sampling_client_async(base_model=config.model_name)


def _is_of_other_options(journal: Journal, options_hash: str) -> bool:
    return bool(journal.starts) and journal.starts[-1].options_hash != options_hash


def _free_name(path: Path) -> Path:
    """`journal.1.bin`, or the first such name that nothing has."""
    numbered = (path.with_suffix(f".{number}{path.suffix}") for number in count(1))
    return next(free for free in numbered if not free.exists())
