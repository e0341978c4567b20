"""Reinforcement learning: rollouts, advantages, schedule, training."""

from tinker_rl.rl.advantages import (
    compute_advantages,
    group_advantages,
    remove_constant_reward_groups,
)
from tinker_rl.rl.checkpoints import CheckpointRecord
from tinker_rl.rl.config import (
    Config,
    KLReferenceConfig,
    LogdirBehavior,
    SamplingClientEvaluator,
    SamplingClientEvaluatorBuilder,
)
from tinker_rl.rl.data import TrainingSequence, assemble_training_data, trajectory_to_data
from tinker_rl.rl.episode import do_single_rollout
from tinker_rl.rl.evaluator import RLTestSetEvaluator
from tinker_rl.rl.group_policies import FailFast, GroupPolicy, MinViable, Retry
from tinker_rl.rl.learner import LossConfig, train_step
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.loggers import LoggedRun, Logger
from tinker_rl.rl.metrics import (
    compute_kl_sample_train,
    compute_staleness_metrics,
    compute_trajectory_metrics,
)
from tinker_rl.rl.outcomes import (
    Completed,
    DroppedGroup,
    EnvFailure,
    GroupOutcome,
    InfraFailure,
    MemberFailure,
    Outcome,
    RolledOutGroup,
    RolloutTimes,
    Truncated,
    UnfinishedEpisode,
)
from tinker_rl.rl.publisher import OnWeightSyncError
from tinker_rl.rl.rollouts import do_group_rollout
from tinker_rl.rl.schedules import AsyncConfig, StreamMinibatchConfig
from tinker_rl.rl.train import RunSummary, main, train
from tinker_rl.rl.window import Commit, Lag, Minibatch, Straggler, Ticket, Window

__all__ = [
    "AsyncConfig",
    "CheckpointRecord",
    "Commit",
    "Completed",
    "Config",
    "DroppedGroup",
    "EnvFailure",
    "FailFast",
    "GroupOutcome",
    "GroupPolicy",
    "InfraFailure",
    "KLReferenceConfig",
    "Lag",
    "LogdirBehavior",
    "LoggedRun",
    "Logger",
    "LossConfig",
    "MemberFailure",
    "MinViable",
    "Minibatch",
    "OnWeightSyncError",
    "Outcome",
    "RLTestSetEvaluator",
    "Retry",
    "RolledOutGroup",
    "RolloutLimits",
    "RolloutTimes",
    "RunSummary",
    "SamplingClientEvaluator",
    "SamplingClientEvaluatorBuilder",
    "Straggler",
    "StreamMinibatchConfig",
    "Ticket",
    "TrainingSequence",
    "Truncated",
    "UnfinishedEpisode",
    "Window",
    "assemble_training_data",
    "compute_advantages",
    "compute_kl_sample_train",
    "compute_staleness_metrics",
    "compute_trajectory_metrics",
    "do_group_rollout",
    "do_single_rollout",
    "group_advantages",
    "main",
    "remove_constant_reward_groups",
    "train",
    "train_step",
    "trajectory_to_data",
]
