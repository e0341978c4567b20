"""Options of a reinforcement-learning run, with the names of the Tinker cookbook."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import chz

from tinker_rl.envs import RLDatasetBuilder
from tinker_rl.errors import ConfigError, UnsupportedError
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.publisher import OnWeightSyncError

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = [
    "AsyncConfig",
    "Config",
    "LogdirBehavior",
    "SamplingClientEvaluator",
    "SamplingClientEvaluatorBuilder",
    "StreamMinibatchConfig",
]

LogdirBehavior: TypeAlias = Literal["delete", "resume", "ask", "raise"]


class SamplingClientEvaluator(Protocol):
    """Measures the weights of a sampling client."""

    def __call__(self, sampling_client: SamplingClient) -> Awaitable[dict[str, float]]:
        """Give metrics by name."""
        ...


SamplingClientEvaluatorBuilder: TypeAlias = Callable[[], SamplingClientEvaluator]


@chz.chz
class AsyncConfig:
    """Sampling runs ahead of training."""

    max_steps_off_policy: int = chz.field(doc="Greatest age of a group when it trains, in steps.")
    groups_per_batch: int = chz.field(doc="Groups in a batch, as many as the dataset's.")


@chz.chz
class StreamMinibatchConfig:
    """Training starts when a part of the batch is complete."""

    groups_per_batch: int = chz.field(doc="Groups in a batch, as many as the dataset's.")
    num_minibatches: int = chz.field(doc="Equal parts of the batch.")


@chz.chz
class Config:
    """What `tinker_rl.rl.train` runs. Steps count batches."""

    learning_rate: float = chz.field(doc="Of Adam.")
    dataset_builder: RLDatasetBuilder = chz.field(doc="Makes the training and held-out data.")
    model_name: str = chz.field(doc="Base model: a name, a hub name, or a folder.")
    max_tokens: int = chz.field(doc="Most tokens of one action.")
    log_path: str = chz.field(
        munger=lambda _, path: os.path.expanduser(path), doc="Folder that the run writes to."
    )
    recipe_name: str = chz.field(default="rl", doc="Kept with every checkpoint.")
    renderer_name: str | None = chz.field(default=None, doc="Kept with every checkpoint.")
    sampler_name: str | None = chz.field(
        default=None,
        doc="Kept with every checkpoint; the engine has the sampler it was opened with.",
    )

    max_steps: int | None = chz.field(default=None, doc="Steps at most; None: the whole dataset.")
    num_epochs: int = chz.field(default=1, doc="Passes over the dataset.")
    num_substeps: int = chz.field(default=1, doc="Optimiser steps that a batch is split into.")
    loss_fn: str = chz.field(default="importance_sampling", doc="The learner's loss.")
    loss_fn_config: dict[str, Any] | None = chz.field(default=None, doc="Options of the loss.")
    remove_constant_reward_groups: bool = chz.field(
        default=False, doc="Leave out groups in which all earned the same."
    )
    lora_rank: int = chz.field(default=32, doc="Rank of the adapter.")
    load_checkpoint_path: str | None = chz.field(
        default=None, doc="Checkpoint whose weights to start from."
    )
    kl_penalty_coef: float = chz.field(default=0.0, doc="Not there yet; 0 only.")

    temperature: float = chz.field(default=1.0, doc="Of the sampler.")
    allow_mismatched_sampling: bool = chz.field(
        default=False, doc="Allow a temperature other than 1, which the losses do not know of."
    )
    limits: RolloutLimits = chz.field(default_factory=RolloutLimits, doc="Bounds of an episode.")
    max_concurrent_groups: int | None = chz.field(
        default=None, doc="Groups rolled out at a time; None: as many as the schedule admits."
    )
    max_failed_group_fraction: float = chz.field(
        default=0.2, doc="Share of failed groups past which the run stops; 0: at the first."
    )
    on_weight_sync_error: OnWeightSyncError = chz.field(
        default="stop",
        doc="When the sampler does not have the new weights as the learner does: stop, or continue "
        "with the last version that it had right.",
    )
    max_weight_sync_failures: int = chz.field(
        default=3, doc="Such failures in a row at which a run that continues stops, too."
    )

    eval_every: int = chz.field(default=20, doc="Steps between evaluations; 0: none at all.")
    evaluator_builders: list[SamplingClientEvaluatorBuilder] = chz.field(
        default_factory=list, doc="Evaluations beside the one on held-out data."
    )
    save_every: int = chz.field(default=20, doc="Steps between checkpoints; 0: only at the end.")
    num_groups_to_log: int = chz.field(default=4, doc="Groups a step in the transcripts.")
    behavior_if_log_dir_exists: LogdirBehavior = chz.field(
        default="ask", doc="When log_path holds a run of other options: resume|delete|ask|raise."
    )

    seed: int = chz.field(default=0, doc="Of the adapter, the sampler and the environments.")
    base_url: str | None = chz.field(default=None, doc="Address of an engine; None: this process.")
    async_config: AsyncConfig | None = chz.field(default=None, doc="Not there yet.")
    stream_minibatch_config: StreamMinibatchConfig | None = chz.field(
        default=None, doc="Not there yet."
    )

    @property
    def log_dir(self) -> Path:
        """`log_path` as a path."""
        return Path(self.log_path)

    @chz.validate
    def _numbers_are_in_range(self) -> None:
        at_least = {
            "max_tokens": 1,
            "num_epochs": 1,
            "num_substeps": 1,
            "lora_rank": 1,
            "eval_every": 0,
            "save_every": 0,
            "num_groups_to_log": 0,
            "max_failed_group_fraction": 0,
            "max_weight_sync_failures": 1,
            "temperature": 0,
        }
        if self.max_steps is not None:
            at_least["max_steps"] = 0
        if self.max_concurrent_groups is not None:
            at_least["max_concurrent_groups"] = 1
        for name, least in at_least.items():
            value = getattr(self, name)
            if not value >= least:
                raise ConfigError(f"{name}: expected {least} or more; got {value}. Change it.")
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(
                f"learning_rate: expected a finite number above 0; got {self.learning_rate}. "
                "Change it."
            )

    @chz.validate
    def _weight_sync_errors_are_handled(self) -> None:
        known = get_args(OnWeightSyncError)
        if self.on_weight_sync_error not in known:
            raise ConfigError(
                f"on_weight_sync_error: expected one of {', '.join(known)}; got "
                f"{self.on_weight_sync_error!r}. Change it."
            )

    @chz.validate
    def _schedule_is_there(self) -> None:
        """The one place that says which schedules and shapings run today."""
        missing = {
            "async_config": self.async_config is not None,
            "stream_minibatch_config": self.stream_minibatch_config is not None,
            "kl_penalty_coef": self.kl_penalty_coef != 0,
        }
        for name, is_asked_for in missing.items():
            if is_asked_for:
                raise UnsupportedError(
                    f"{name}: expected its default; got {getattr(self, name)!r}. It is not there "
                    "yet: runs are on-policy, without a KL penalty. Leave it out."
                )

    @chz.validate
    def _sampling_matches_the_loss(self) -> None:
        if self.temperature != 1.0 and not self.allow_mismatched_sampling:
            raise ConfigError(
                f"temperature: expected 1, at which the learner's probabilities are those that "
                f"were sampled from; got {self.temperature}. Leave it out, or set "
                "allow_mismatched_sampling=True to train on the wrong ratios all the same."
            )
