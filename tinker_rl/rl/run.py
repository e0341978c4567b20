"""One start of a run: rolls out, learns, publishes, evaluates, saves, and writes down all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from tinker_rl.envs import RLDataset
from tinker_rl.errors import ConfigError
from tinker_rl.policies import EpisodeKey, LivePolicy
from tinker_rl.rl.advantages import compute_advantages, has_constant_reward
from tinker_rl.rl.checkpoints import CheckpointLog, CheckpointRecord
from tinker_rl.rl.config import Config, SamplingClientEvaluator
from tinker_rl.rl.data import assemble_training_data
from tinker_rl.rl.error_budget import ErrorBudget, describe_failure
from tinker_rl.rl.evaluator import RLTestSetEvaluator
from tinker_rl.rl.files import JsonLines
from tinker_rl.rl.learner import LossConfig, TrainStepOutput, train_step
from tinker_rl.rl.log_dir import METRICS_FILE
from tinker_rl.rl.outcomes import DroppedGroup, GroupOutcome, RolledOutGroup
from tinker_rl.rl.pipeline import run_pipeline
from tinker_rl.rl.problems import NumberedGroups
from tinker_rl.rl.progress import RunProgress
from tinker_rl.rl.publisher import Publisher
from tinker_rl.rl.rollouts import do_group_rollout
from tinker_rl.rl.step_metrics import batch_metrics
from tinker_rl.rl.transcripts import write_transcripts
from tinker_rl.rl.window import Commit, Minibatch, Ticket, Window

if TYPE_CHECKING:
    from tinker_rl.clients import TrainingClient

__all__ = ["Run"]

Batch = Minibatch[GroupOutcome | None]


class Run:
    """The state of a run from the step it starts at to the last.

    A step is committed when its batch is trained on and the new weights are published, or could not
    be; its row is written then, and a checkpoint only after the row. `num_committed` is what a
    checkpoint means, and the policy's own version what acts: older, where publishing failed.

    Args:
        config: Options.
        training_client: The model, with `first_step` batches trained.
        groups: What is rolled out.
        test_dataset: Held-out problems, if there are any.
        num_steps: Steps of the whole run.
        first_step: Step to start at.
        progress: Where to show what happens.
    """

    def __init__(
        self,
        config: Config,
        training_client: TrainingClient,
        groups: NumberedGroups,
        test_dataset: RLDataset | None,
        *,
        num_steps: int,
        first_step: int,
        progress: RunProgress,
    ) -> None:
        self._config = config
        self._client = training_client
        self._groups = groups
        self._num_steps = num_steps
        self._progress = progress
        self._policy = LivePolicy(
            training_client, max_tokens=config.max_tokens, temperature=config.temperature
        )
        self._publisher = Publisher(
            self._policy,
            config.on_weight_sync_error,
            config.max_weight_sync_failures,
            progress.say,
        )
        self._evaluators = self._make_evaluators(test_dataset)
        self._rows = JsonLines(config.log_dir / METRICS_FILE)
        self._checkpoints = CheckpointLog(config.log_dir)
        self._budget = ErrorBudget(config.max_failed_group_fraction)
        self._num_saved = first_step
        self._evaluation: dict[str, float] = {}
        """Of the newest version; part of the row of the step that trains it."""
        self._owes_evaluation = False
        """Whether one is due, and waits for a version that is published."""
        self._num_rolled_out = 0
        """Groups of the present version that are done."""
        self._step_began_at = time.monotonic()
        self._commit = anyio.CancelScope(shield=True)
        self.num_committed = first_step
        self.is_committing = False
        """Whether the learner is between two versions, so that its state is neither's."""

    async def go(self) -> None:
        """Run to the last step. Cancelled, it finishes the step that the learner is at."""
        self._progress.waiting("starting the sampler")
        await self._policy.publish(self.num_committed)
        await self._evaluate()
        schedule: Window[GroupOutcome | None] = Window(
            self._groups.groups_per_batch, 0, self._num_steps, first_batch=self.num_committed
        )
        self._step_began_at = time.monotonic()
        self._progress.begin()
        await run_pipeline(
            schedule,
            self._roll_out,
            self._learn,
            self._config.max_concurrent_groups or schedule.num_slots,
        )

    def stop_at_once(self) -> None:
        """When cancelled, do not finish the step that the learner is at either."""
        self._commit.cancel()

    async def save(self) -> CheckpointRecord | None:
        """Save what was committed since the last checkpoint; None if there is nothing."""
        if self.is_committing or self.num_committed == self._num_saved:
            return None
        return await self._save()

    # ---------------------------------------------------------------------------- rolling out

    async def _roll_out(self, ticket: Ticket) -> GroupOutcome | None:
        builder = self._groups.builder(ticket.group)
        if builder is None:
            return None
        outcome = await do_group_rollout(
            builder,
            self._policy.at(ticket.policy_version),
            EpisodeKey(run_seed=self._config.seed, group=ticket.group),
            self._config.limits,
        )
        if isinstance(outcome, DroppedGroup):
            self._progress.say(
                f"group {ticket.group} is dropped: {describe_failure(outcome.failure)}"
            )
        self._num_rolled_out += 1
        self._show_rollouts()
        return outcome

    def _show_rollouts(self) -> None:
        self._progress.working("rollouts", self._num_rolled_out, self._groups.groups_per_batch)

    # ------------------------------------------------------------------------------- learning

    async def _learn(self, batch: Batch) -> Commit:
        """Commit a batch; returns the version that it made, and the one that acts."""
        for outcome in batch.results:
            if outcome is not None:
                self._budget.count(outcome if isinstance(outcome, DroppedGroup) else None)
        self._budget.check()
        with anyio.CancelScope(shield=True) as self._commit:
            await self._commit_batch(batch)
        await anyio.lowlevel.checkpoint()
        await self._evaluate()
        self._num_rolled_out = 0
        self._show_rollouts()
        self._step_began_at = time.monotonic()
        return Commit(version=self.num_committed, acting_version=self._policy.policy_version)

    async def _commit_batch(self, batch: Batch) -> None:
        step = batch.batch
        began, batch_ready = self._step_began_at, time.monotonic()
        self.is_committing = True
        self._progress.working("training", 0, 1)
        trained = await self._train(batch)
        trained_at = time.monotonic()
        self._progress.working("publishing", 0, 1)
        is_last = step + 1 == self._num_steps
        publication = await self._publisher.publish(step + 1, is_last=is_last)
        self._policy.retire(step + 1)
        self._groups.forget_before(step + 1)
        published_at = time.monotonic()
        metrics = batch_metrics(batch.results, trained, policy_version=step)
        row = {
            "step": step,
            "progress/batch": step,
            "progress/done_frac": (step + 1) / self._num_steps,
            "optim/lr": self._config.learning_rate,
            **metrics,
            "sampling/tokens_per_second": metrics["sampling/tokens"]
            / max(batch_ready - began, 1e-9),
            "time/sampling": batch_ready - began,
            "time/train": trained_at - batch_ready,
            "time/publish": published_at - trained_at,
            "time/total": published_at - began,
            **publication.metrics,
            **self._evaluation,
        }
        self._write_transcripts(batch)
        self._rows.append(row)
        self.num_committed = step + 1
        self.is_committing = False
        self._progress.step_done(step, row)
        if publication.fatal is not None:
            raise publication.fatal
        if self._is_due(self._config.save_every) or is_last:
            await self._save()

    async def _train(self, batch: Batch) -> TrainStepOutput | None:
        """Train on what there is to train on in a batch; None if there is nothing."""
        outcomes = [outcome for outcome in batch.results if isinstance(outcome, RolledOutGroup)]
        groups = [outcome.group for outcome in outcomes]
        _check_group_sizes([len(group.trajectories_G) for group in groups])
        if self._config.remove_constant_reward_groups:
            groups = [group for group in groups if not has_constant_reward(group)]
        data = assemble_training_data(groups, compute_advantages(groups))
        if not any(data):
            return None
        loss = LossConfig(
            learning_rate=self._config.learning_rate,
            loss_fn=self._config.loss_fn,
            loss_fn_config=self._config.loss_fn_config,
            num_substeps=self._config.num_substeps,
        )
        return await train_step(self._client, data, loss)

    # ----------------------------------------------------------------- evaluating and saving

    def _make_evaluators(
        self, test_dataset: RLDataset | None
    ) -> list[tuple[str, SamplingClientEvaluator]]:
        config = self._config
        found: list[tuple[str, SamplingClientEvaluator]] = []
        if test_dataset is not None and len(test_dataset):
            on_held_out = RLTestSetEvaluator(
                test_dataset,
                config.max_tokens,
                seed=config.seed,
                limits=config.limits,
                max_failed_group_fraction=config.max_failed_group_fraction,
                on_progress=lambda done, all_: self._progress.working("evaluating", done, all_),
            )
            found.append((on_held_out.name, on_held_out))
        for build in config.evaluator_builders:
            evaluator = build()
            found.append((getattr(evaluator, "name", type(evaluator).__name__), evaluator))
        return found

    async def _evaluate(self) -> None:
        """Evaluate the newest version where that is due; the last one's gets a row of its own.

        One that could not be published is not evaluated: the next one is, in its place.
        """
        self._evaluation = {}
        is_last = self.num_committed == self._num_steps
        if self._is_due(self._config.eval_every) or (is_last and self._config.eval_every):
            self._owes_evaluation = True
        if not self._owes_evaluation or self._policy.policy_version < self.num_committed:
            return
        self._owes_evaluation = False
        sampling_client = self._policy.pinned(self.num_committed).sampling_client
        for name, evaluator in self._evaluators:
            self._progress.working(f"evaluating {name}", 0, 1)
            self._evaluation |= await evaluator(sampling_client)
        self._progress.evaluated(self.num_committed, self._evaluation)
        if is_last and self._evaluation:
            self._rows.append({"step": self.num_committed, **self._evaluation})

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.num_committed % every == 0

    async def _save(self) -> CheckpointRecord:
        batch = self.num_committed
        is_final = batch == self._num_steps
        name = "final" if is_final else f"{batch:06d}"
        self._progress.working(f"saving checkpoint {name}", 0, 1)
        metadata = {"step": str(batch), **_metadata(self._config)}
        state = await self._client.save_state_async(name, overwrite=True, user_metadata=metadata)
        sampler = await self._client.save_weights_for_sampler_async(name, user_metadata=metadata)
        record = CheckpointRecord(
            name=name,
            batch=batch,
            state_path=(await state).path,
            sampler_path=(await sampler).path,
            final=is_final,
        )
        self._checkpoints.append(record)
        self._num_saved = batch
        return record

    def _write_transcripts(self, batch: Batch) -> None:
        """Of the first groups of the batch, and of every dropped one."""
        numbered = zip(batch.groups, batch.results, strict=True)
        done = [(number, outcome) for number, outcome in numbered if outcome is not None]
        shown = [
            (number, outcome)
            for place, (number, outcome) in enumerate(done)
            if place < self._config.num_groups_to_log or isinstance(outcome, DroppedGroup)
        ]
        if shown:
            tokenizer: Any = self._client.get_tokenizer()
            write_transcripts(self._config.log_dir, batch.batch, shown, tokenizer)


def _check_group_sizes(sizes: Sequence[int]) -> None:
    if sizes and max(sizes) == 1:
        raise ConfigError(
            "dataset_builder: expected groups of at least two environments, since advantages are "
            "centred in the group; got groups of one, from which nothing is learned. Raise the "
            "dataset's group size."
        )


def _metadata(config: Config) -> dict[str, str]:
    names = ("recipe_name", "renderer_name", "sampler_name")
    values = {name: getattr(config, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
