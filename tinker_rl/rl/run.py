"""One start of a run: comes back to where it was, then rolls out, learns, publishes, evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from tinker_rl.envs import RLDataset
from tinker_rl.errors import CompleterError, EnvError
from tinker_rl.policies import AdaptiveLimit, FixedLimit, LivePolicy, SamplerGate
from tinker_rl.rl.advantages import check_group_sizes
from tinker_rl.rl.batch_training import BatchTrainer, check_loss
from tinker_rl.rl.checkpoints import CheckpointLog, CheckpointRecord, save_checkpoint
from tinker_rl.rl.config import Config
from tinker_rl.rl.error_budget import ErrorBudget
from tinker_rl.rl.evaluations import Evaluations, make_evaluators
from tinker_rl.rl.heap import frozen_heap
from tinker_rl.rl.journal import (
    CommitRecord,
    EvaluationRecord,
    GroupRecord,
    Journal,
    Record,
    StartRecord,
)
from tinker_rl.rl.kl_limit import KLLimit
from tinker_rl.rl.learner import TrainStepOutput
from tinker_rl.rl.loggers import RowLog
from tinker_rl.rl.loop_watch import LoopWatch
from tinker_rl.rl.outcomes import DroppedGroup, RolledOutGroup
from tinker_rl.rl.past import Past
from tinker_rl.rl.pipeline import run_pipeline
from tinker_rl.rl.problems import NumberedGroups
from tinker_rl.rl.progress import RunProgress
from tinker_rl.rl.publisher import Publication, Publisher
from tinker_rl.rl.replay import replay_step
from tinker_rl.rl.rolling import Rolling
from tinker_rl.rl.saved_versions import SavedVersions
from tinker_rl.rl.step_metrics import batch_metrics
from tinker_rl.rl.stopwatch import Stopwatch
from tinker_rl.rl.timeline import TIMELINE_FILE, Timeline
from tinker_rl.rl.trained_tokens import trained_record
from tinker_rl.rl.transcripts import write_transcripts
from tinker_rl.rl.versions import Versions
from tinker_rl.rl.window import Commit, Minibatch, Window

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient, ServiceClient, TrainingClient

__all__ = ["Run"]

INITIAL_SAMPLES = 256
"""Requests at the sampler at a time, to begin with."""


class Run:
    """The state of a run from the version it comes back to until the last.

    A step is committed when its batch is trained on, the new weights are published, or could not
    be, and the journal says so; its row is written then, and a checkpoint only after the row.
    `num_committed` is what a checkpoint means, and the policy's own version what acts: older, where
    publishing failed.

    Args:
        config: Options.
        service_client: The engine.
        training_client: The model, as `checkpoint_batch` batches left it.
        groups: What is rolled out.
        test_dataset: Held-out problems, if there are any.
        journal: Of this run and these options.
        rows: Takes in what a step or an evaluation tells.
        options_hash: Of the options, for the journal.
        num_steps: Steps of the whole run.
        checkpoint_batch: Batches that the model was trained on.
        reference: Weights that the policy is kept close to, if it is.
        progress: Where to show what happens.
    """

    def __init__(
        self,
        config: Config,
        service_client: ServiceClient,
        training_client: TrainingClient,
        groups: NumberedGroups,
        test_dataset: RLDataset | None,
        journal: Journal,
        rows: RowLog,
        *,
        options_hash: str,
        num_steps: int,
        checkpoint_batch: int,
        reference: SamplingClient | None,
        progress: RunProgress,
    ) -> None:
        self._config = config
        self._client = training_client
        self._groups = groups
        self._journal = journal
        self._options_hash = options_hash
        self._num_steps = num_steps
        self._progress = progress
        self._schedule = config.schedule
        self._past = Past.of(journal, checkpoint_batch)
        self._window = self._make_window()
        most = config.max_concurrent_samples
        gate = SamplerGate(AdaptiveLimit(INITIAL_SAMPLES) if most is None else FixedLimit(most))
        self._policy = LivePolicy(
            training_client,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            refresh=self._schedule.refresh,
            gate=gate,
        )
        # An evaluation has its turn at the sampler as if it were the next group.
        evaluators = make_evaluators(config, test_dataset, gate, lambda: (self._window.next_group,))
        self._timeline = Timeline(config.log_dir / TIMELINE_FILE)
        self._evaluations = Evaluations(
            evaluators, num_steps, config.eval_every, self._record, self._timeline
        )
        self._versions = Versions(
            self._policy,
            Publisher(
                self._policy,
                config.on_weight_sync_error,
                config.max_weight_sync_failures,
                progress.say,
            ),
            SavedVersions(service_client, training_client, self._past.paths),
            self._evaluations,
            config.league,
            self._past,
            self._window,
            keeps_old=self._schedule.keeps_old_versions,
            say=progress.say,
        )
        self._watch = Stopwatch(self._timeline)
        self._loop_watch = LoopWatch(progress.say)
        self._rolling = Rolling(
            config,
            self._policy,
            groups,
            reference,
            self._append_group,
            self._watch,
            self._timeline,
            progress,
        )
        self._rows = rows
        self._checkpoints = CheckpointLog(config.log_dir)
        self._budget = ErrorBudget(config.max_failed_group_fraction)
        self._kl_limit = KLLimit(config.kl_warn, config.kl_stop)
        self._options = config.training_options
        self._num_saved = checkpoint_batch
        self._trainer: BatchTrainer | None = None
        self._batch: list[GroupRecord] = []
        """What was handed to the learner of the batch under way."""
        self._publishing = anyio.Lock()
        """Held until the journal has the commit of a version that may act already: what was sampled
        with it comes after."""
        self._commit = anyio.CancelScope(shield=True)
        self.num_committed = checkpoint_batch
        self.is_committing = False
        """Whether the learner is between two versions, so that its state is neither's."""

    async def go(self) -> None:
        """Run to the last step. Cancelled, it finishes the step that the learner is at."""
        await check_loss(self._client, self._options)
        self._progress.waiting("starting the sampler")
        with self._timeline:
            await self._go()

    async def _go(self) -> None:
        async with self._evaluations.beside():
            doing = "replays" if self._past.num_committed > self.num_committed else "publishes"
            with self._timeline.spanning("learner", doing, step=self.num_committed):
                await self._come_back()
            self._watch.start()
            self._progress.begin()
            most = self._config.max_concurrent_groups or self._window.num_slots
            with frozen_heap():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._loop_watch.serve)
                    await run_pipeline(
                        self._window, self._rolling.roll_out, self._learn, most, self._timeline
                    )
                    tasks.cancel_scope.cancel()
            if self._evaluations.num_owed:
                self._progress.waiting("evaluating")

    def stop_at_once(self) -> None:
        """When cancelled, do not finish the step that the learner is at either."""
        self._commit.cancel()

    async def save(self) -> CheckpointRecord | None:
        """Save what was committed since the last checkpoint; None if there is nothing."""
        if self.is_committing or self.num_committed == self._num_saved:
            return None
        return await self._save()

    # --------------------------------------------------------------------------- coming back

    def _make_window(self) -> Window[GroupRecord]:
        past, size = self._past, self._groups.groups_per_batch
        return self._schedule.window(
            size,
            max(self._num_steps, past.num_committed),
            first_batch=past.num_committed,
            oldest_version=past.first_version,
            finished=past.waiting(self._journal),
            trained=past.trained(size),
            mute=past.mute,
        )

    async def _come_back(self) -> None:
        """Train again on what was committed after the checkpoint, and publish what is needed."""
        past = self._past
        needed = self._versions.needed(self.num_committed)
        for version in sorted(v for v in needed if v < self.num_committed):
            await self._versions.load(version)
        if self.num_committed in needed:
            await self._versions.publish_again(self.num_committed, None)
        for commit in past.commits:
            if commit.step < self.num_committed:
                continue
            self._progress.working("replaying the journal", commit.step + 1, past.num_committed)
            self.is_committing = True
            await replay_step(self._client, self._journal, commit)
            self.num_committed = commit.step + 1
            self.is_committing = False
            if self.num_committed in needed:
                await self._versions.publish_again(self.num_committed, commit.weight_hash)
        self._versions.come_back()
        self._kl_limit.remember(past.rows())
        start = StartRecord(
            version=self.num_committed,
            weight_hash=self._versions.weight_hash(self.num_committed),
            sampler_path=await self._versions.keep(self.num_committed),
            options_hash=self._options_hash,
        )
        await self._append(start)

    # ------------------------------------------------------------------------------- learning

    async def _learn(self, minibatch: Minibatch[GroupRecord]) -> Commit | None:
        """Train on a minibatch; with the last of its batch, commit."""
        await self._check_failures(minibatch)
        outcomes = [record.outcome for record in minibatch.results]
        check_group_sizes([o.group for o in outcomes if isinstance(o, RolledOutGroup)])
        with anyio.CancelScope(shield=True) as self._commit:
            self.is_committing = True
            self._progress.working("training")
            await anyio.to_thread.run_sync(self._journal.sync)
            if self._trainer is None:
                self._trainer = BatchTrainer(self._client, self._options, minibatch.batch)
            await self._trainer.add(minibatch.results)
            self._batch += minibatch.results
            if minibatch.is_last:
                await self._commit_batch(minibatch.batch, self._trainer)
        await anyio.lowlevel.checkpoint()
        if not minibatch.is_last:
            self._progress.idle()
            return None
        # Outside of the shield: it may wait for evaluations that have been stopped.
        await self._versions.evaluate(self.num_committed)
        return Commit(version=self.num_committed, acting_version=self._policy.policy_version)

    async def _check_failures(self, minibatch: Minibatch[GroupRecord]) -> None:
        for record in minibatch.results:
            if record.outcome is not None:
                dropped = record.outcome if isinstance(record.outcome, DroppedGroup) else None
                self._budget.count(dropped)
        try:
            self._budget.check()
        except (CompleterError, EnvError):
            await self._write_transcripts(minibatch.batch, [*self._batch, *minibatch.results])
            raise

    async def _commit_batch(self, step: int, trainer: BatchTrainer) -> None:
        self._watch.batch_complete(step, [record.group for record in self._batch])
        trained = await trainer.result()
        self._watch.trained()
        self._progress.working("publishing")
        is_last = step + 1 == self._num_steps
        async with self._publishing:
            publication = await self._versions.publish(step + 1, is_last=is_last)
            self._watch.published()
            row = self._row(step, trained, publication)
            await self._write_commit(step, row, trained)
        self._trainer, self._batch = None, []
        self.num_committed = step + 1
        self.is_committing = False
        self._rows.append(row)
        self._progress.step_done(step, row)
        self._versions.retire()
        self._groups.forget_before(step + 1)
        await self._versions.delete_unneeded()
        if publication.fatal is not None:
            raise publication.fatal
        if warning := self._kl_limit.observe(step, row):
            self._progress.say(warning)
        if self._is_due(self._config.save_every) or is_last:
            await self._save()

    def _row(
        self, step: int, trained: TrainStepOutput | None, publication: Publication
    ) -> dict[str, Any]:
        metrics = batch_metrics(
            [record.outcome for record in self._batch],
            trained,
            policy_version=step,
            max_token_age=self._options.max_token_age,
        )
        return {
            "step": step,
            "progress/batch": step,
            "progress/done_frac": (step + 1) / self._num_steps,
            "optim/lr": self._config.learning_rate,
            **metrics,
            **self._watch.metrics(metrics["sampling/tokens"]),
            "time/loop_held_up": self._loop_watch.longest(),
            **publication.metrics,
        }

    async def _write_commit(
        self, step: int, row: dict[str, Any], trained: TrainStepOutput | None
    ) -> None:
        """Say in the journal that a batch is trained on; from here on, it is."""
        await self._write_transcripts(step, self._batch)
        path = await self._versions.keep(step + 1)
        for record in self._batch:
            if isinstance(record.outcome, DroppedGroup):
                await self._append(record)
        if trained is not None:
            await self._append(trained_record(step, self._batch, trained))
        commit = CommitRecord(
            step=step,
            groups=tuple(record.group for record in self._batch),
            weight_hash=self._versions.weight_hash(step + 1),
            acting_version=self._policy.policy_version,
            sampler_path=path,
            metrics=row,
            training=self._options,
        )
        await self._append(commit)
        await anyio.to_thread.run_sync(self._journal.sync)

    async def _append_group(self, record: Record) -> None:
        async with self._publishing:
            await self._append(record)

    async def _append(self, record: Record) -> None:
        await anyio.to_thread.run_sync(self._journal.append, record)

    # ----------------------------------------------------------------- evaluating and saving

    async def _record(self, version: int, metrics: dict[str, float]) -> None:
        await self._append(EvaluationRecord(version=version, metrics=metrics))
        self._versions.evaluated(version)
        self._rows.append({"step": version, **metrics})
        self._progress.evaluated(version, metrics)

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.num_committed % every == 0

    async def _save(self) -> CheckpointRecord:
        batch = self.num_committed
        self._progress.working(f"saving checkpoint {batch}")
        began = self._timeline.now()
        record = await save_checkpoint(
            self._client,
            self._checkpoints,
            batch,
            self._config.checkpoint_metadata,
            is_final=batch == self._num_steps,
        )
        self._watch.saved(began)
        self._progress.idle()
        self._num_saved = batch
        return record

    async def _write_transcripts(self, step: int, records: Sequence[GroupRecord]) -> None:
        """Of the first groups of the batch, and of every dropped one."""
        done = [(r.group, r.outcome) for r in records if r.outcome is not None]
        shown = [
            (number, outcome)
            for place, (number, outcome) in enumerate(done)
            if place < self._config.num_groups_to_log or isinstance(outcome, DroppedGroup)
        ]

        def write() -> None:
            tokenizer: Any = self._client.get_tokenizer()
            write_transcripts(self._config.log_dir, step, shown, tokenizer)

        if shown:
            await anyio.to_thread.run_sync(write)
