"""Options of a reinforcement-learning run, with the names of the Tinker cookbook."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import chz
from chz.tiepin import is_subtype_instance

from tinker_rl.envs import RLDatasetBuilder
from tinker_rl.errors import ConfigError
from tinker_rl.policies.league import League
from tinker_rl.rl.corrections import resolve_loss
from tinker_rl.rl.group_policies import FailFast, GroupPolicy
from tinker_rl.rl.journal import TrainingOptions
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.loggers import Logger, logger_problems
from tinker_rl.rl.publisher import OnWeightSyncError
from tinker_rl.rl.schedules import (
    AsyncConfig,
    Schedule,
    StreamMinibatchConfig,
    schedule_problems,
)

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = [
    "Config",
    "KLReferenceConfig",
    "LogdirBehavior",
    "SamplingClientEvaluator",
    "SamplingClientEvaluatorBuilder",
]

LogdirBehavior: TypeAlias = Literal["delete", "resume", "ask", "raise"]


class SamplingClientEvaluator(Protocol):
    """Measures the weights of a sampling client."""

    def __call__(self, sampling_client: SamplingClient) -> Awaitable[dict[str, float]]:
        """Give metrics by name."""
        ...


SamplingClientEvaluatorBuilder: TypeAlias = Callable[[], SamplingClientEvaluator]


@chz.chz
class KLReferenceConfig:
    """Frozen weights that the policy is kept close to."""

    base_model: str = chz.field(doc="The run's own base model: no second one is held in memory.")
    load_checkpoint_path: str | None = chz.field(
        default=None, doc="Checkpoint of an adapter on it; None: the base model itself."
    )


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
    loss_fn: str | None = chz.field(
        default=None,
        doc="The learner's loss, or truncated_importance_sampling; None: importance_sampling, and "
        "ppo where sampling runs ahead.",
    )
    loss_fn_config: dict[str, Any] | None = chz.field(default=None, doc="Options of the loss.")
    remove_constant_reward_groups: bool = chz.field(
        default=False, doc="Leave out groups in which all earned the same."
    )
    lora_rank: int = chz.field(default=32, doc="Rank of the adapter.")
    load_checkpoint_path: str | None = chz.field(
        default=None, doc="Checkpoint whose weights to start from."
    )
    kl_penalty_coef: float = chz.field(
        default=0.0, doc="Weight of the KL to the reference in the advantages; 0: none."
    )
    kl_discount_factor: float = chz.field(
        default=0.0, doc="Share of the next token's penalty that a token answers for, too."
    )
    kl_reference_config: KLReferenceConfig | None = chz.field(
        default=None, doc="The reference; None: the base model."
    )
    kl_warn: float = chz.field(
        default=0.1, doc="KL between sampler and learner, in nats a token, that is warned of."
    )
    kl_stop: float | None = chz.field(
        default=None, doc="The same at which the run stops; None: never."
    )

    temperature: float = chz.field(default=1.0, doc="Of the sampler.")
    allow_mismatched_sampling: bool = chz.field(
        default=False, doc="Allow a temperature other than 1, which the losses do not know of."
    )
    limits: RolloutLimits = chz.field(default_factory=RolloutLimits, doc="Bounds of an episode.")
    group_policy: GroupPolicy = chz.field(
        default_factory=FailFast, doc="What becomes of a group in which an episode fails."
    )
    league: League | None = chz.field(
        default=None, doc="Takes in past versions, for environments that play against them."
    )
    max_concurrent_groups: int | None = chz.field(
        default=None, doc="Groups rolled out at a time; None: as many as the schedule admits."
    )
    max_concurrent_samples: int | None = chz.field(
        default=None, doc="Requests at the sampler at a time; None: as many as are found to pay."
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
    loggers: list[str | Logger] = chz.field(
        default_factory=list,
        doc="What gets the metrics beside metrics.jsonl: tensorboard, wandb, trackio, or objects.",
    )
    behavior_if_log_dir_exists: LogdirBehavior = chz.field(
        default="ask", doc="When log_path holds a run of other options: resume|delete|ask|raise."
    )

    seed: int = chz.field(default=0, doc="Of the adapter, the sampler and the environments.")
    base_url: str | None = chz.field(default=None, doc="Address of an engine; None: this process.")
    async_config: AsyncConfig | None = chz.field(
        default=None, doc="Lets sampling run ahead of training."
    )
    stream_minibatch_config: StreamMinibatchConfig | None = chz.field(
        default=None, doc="Lets training begin before its batch is complete."
    )

    @property
    def log_dir(self) -> Path:
        """`log_path` as a path."""
        return Path(self.log_path)

    @property
    def schedule(self) -> Schedule:
        """When sampling and training may overlap."""
        return Schedule.of(self.async_config, self.stream_minibatch_config, self.num_substeps)

    @property
    def loss(self) -> tuple[str, dict[str, Any] | None]:
        """The engine's loss and its options, defaults filled in."""
        is_off_policy = self.schedule.is_off_policy
        return resolve_loss(self.loss_fn, self.loss_fn_config, is_off_policy)

    @property
    def checkpoint_metadata(self) -> dict[str, str]:
        """What is kept with every checkpoint."""
        names = ("recipe_name", "renderer_name", "sampler_name")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def training_options(self) -> TrainingOptions:
        """What decides, beside its groups, what a batch does to the weights."""
        loss_fn, loss_fn_config = self.loss
        streams = self.stream_minibatch_config
        return TrainingOptions(
            learning_rate=self.learning_rate,
            loss_fn=loss_fn,
            loss_fn_config=loss_fn_config,
            num_substeps=self.num_substeps,
            num_minibatches=streams.num_minibatches if streams else None,
            remove_constant_reward_groups=self.remove_constant_reward_groups,
            kl_penalty_coef=self.kl_penalty_coef,
            kl_discount_factor=self.kl_discount_factor,
            max_token_age=self.schedule.max_token_age,
        )

    @chz.validate
    def _options_fit_together(self) -> None:
        problems = list(self._type_problems()) or [
            *self._number_problems(),
            *self._choice_problems(),
            *schedule_problems(self.async_config, self.stream_minibatch_config, self.num_substeps),
            *self._kl_problems(),
            *logger_problems(self.loggers),
        ]
        if len(problems) == 1:
            raise ConfigError(problems[0])
        if problems:
            raise ConfigError(
                f"Config: expected options that fit together; got {len(problems)} that do not:\n  "
                + "\n  ".join(problems)
            )

    def _type_problems(self) -> Iterator[str]:
        for name, field in chz.chz_fields(self).items():
            value = getattr(self, name)
            if name not in UNCHECKED and not is_subtype_instance(value, field.final_type):
                wanted = field.final_type
                wanted = wanted.__name__ if isinstance(wanted, type) else str(wanted)
                got = f"{value!r}, a {type(value).__name__}"
                yield f"{name}: expected {wanted}; got {got}. Change it."

    def _number_problems(self) -> Iterator[str]:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                yield f"{name}: expected {least} or more; got {value}. Change it."
        if not 0 < self.learning_rate < float("inf"):
            yield (
                f"learning_rate: expected a finite number above 0; got {self.learning_rate}. "
                "Change it."
            )

    def _choice_problems(self) -> Iterator[str]:
        for name, kind in CHOICES.items():
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                yield f"{name}: expected one of {', '.join(known)}; got {value!r}. Change it."
        max_lag, ahead = self.league and self.league.options["max_lag"], self.schedule
        if max_lag is not None and max_lag < ahead.max_steps_off_policy:
            yield (
                f"league: expected max_lag of max_steps_off_policy={ahead.max_steps_off_policy} or "
                f"more, so that groups find the members of their own time; got {max_lag}. Make it "
                f"League(max_lag={ahead.max_steps_off_policy}, ...)."
            )
        if self.temperature != 1.0 and not self.allow_mismatched_sampling:
            yield (
                "temperature: expected 1, at which the learner's probabilities are those that "
                f"were sampled from; got {self.temperature}. Leave it out, or set "
                "allow_mismatched_sampling=True to train on the wrong ratios all the same."
            )

    def _kl_problems(self) -> Iterator[str]:
        reference = self.kl_reference_config
        if self.kl_discount_factor and self.kl_penalty_coef == 0:
            yield (
                "kl_penalty_coef: expected more than 0 with a kl_discount_factor; got 0, with "
                "which there is no penalty to discount. Set it, or leave the factor out."
            )
        if reference is not None and self.kl_penalty_coef == 0:
            yield (
                "kl_penalty_coef: expected more than 0 with a kl_reference_config; got 0, with "
                "which the reference does nothing. Set it, or leave the reference out."
            )
        if reference is not None and reference.base_model != self.model_name:
            yield (
                f"kl_reference_config.base_model: expected model_name={self.model_name!r}, since "
                f"no second base model is held in memory; got {reference.base_model!r}. Take an "
                "adapter of the same base as the reference."
            )
        if not 0 <= self.kl_discount_factor <= 1:
            yield (
                f"kl_discount_factor: expected 0 to 1; got {self.kl_discount_factor}. Change it."
            )
        if self.kl_stop is not None and not self.kl_stop >= self.kl_warn:
            yield (
                f"kl_stop: expected kl_warn={self.kl_warn} or more; got {self.kl_stop}. Change one."
            )
        if self.loss[0] in UNMASKED_LOSSES and self.schedule.max_token_age is not None:
            yield (
                f"loss_fn: expected a loss that an advantage of 0 masks, with straggler='mask'; "
                f"got {self.loss[0]!r}, which would train tokens over age. Take ppo, cispo or "
                "importance_sampling, or straggler='wait'."
            )


UNMASKED_LOSSES = ("dro", "gspo")
"""Losses in which tokens of advantage 0 still count."""


CHOICES: dict[str, Any] = {
    "on_weight_sync_error": OnWeightSyncError,
    "behavior_if_log_dir_exists": LogdirBehavior,
}
"""Options that are one of a few words."""

UNCHECKED = {*CHOICES, "evaluator_builders", "loggers"}
"""Options whose type is checked otherwise, or not at all: anything may be callable."""

LEAST = {
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
    "max_steps": 0,
    "max_concurrent_groups": 1,
    "max_concurrent_samples": 1,
    "kl_penalty_coef": 0,
    "kl_warn": 0,
}
"""Lowest values of options that are numbers; None passes."""
