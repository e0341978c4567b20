"""Environments: what a policy acts in."""

from tinker_rl.envs.types import (
    Action,
    ActionExtra,
    Env,
    EnvGroupBuilder,
    Logprobs,
    Logs,
    Metrics,
    Observation,
    RLDataset,
    RLDatasetBuilder,
    StepResult,
    StopReason,
    Trajectory,
    TrajectoryGroup,
    Transition,
)

__all__ = [
    "Action",
    "ActionExtra",
    "Env",
    "EnvGroupBuilder",
    "Logprobs",
    "Logs",
    "Metrics",
    "Observation",
    "RLDataset",
    "RLDatasetBuilder",
    "StepResult",
    "StopReason",
    "Trajectory",
    "TrajectoryGroup",
    "Transition",
]
