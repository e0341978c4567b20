"""Environments: what a policy acts in."""

from tinker_rl.envs.arithmetic import ArithmeticDatasetBuilder, ArithmeticEnv
from tinker_rl.envs.datasets import DrawnDataset, EnvThunk, ListedDataset
from tinker_rl.envs.grading import extract_boxed, grade_answer, gsm8k_final_answer
from tinker_rl.envs.gsm8k import Gsm8kDatasetBuilder, Gsm8kEnv
from tinker_rl.envs.message_env import EnvFromMessageEnv, MessageEnv, MessageStepResult
from tinker_rl.envs.problem_env import ProblemEnv, ProblemGroupBuilder, load_renderer
from tinker_rl.envs.randomness import current_rng, seeded_rng
from tinker_rl.envs.registry import DATASET_BUILDERS, get_dataset_builder
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
    "DATASET_BUILDERS",
    "Action",
    "ActionExtra",
    "ArithmeticDatasetBuilder",
    "ArithmeticEnv",
    "DrawnDataset",
    "Env",
    "EnvFromMessageEnv",
    "EnvGroupBuilder",
    "EnvThunk",
    "Gsm8kDatasetBuilder",
    "Gsm8kEnv",
    "ListedDataset",
    "Logprobs",
    "Logs",
    "MessageEnv",
    "MessageStepResult",
    "Metrics",
    "Observation",
    "ProblemEnv",
    "ProblemGroupBuilder",
    "RLDataset",
    "RLDatasetBuilder",
    "StepResult",
    "StopReason",
    "Trajectory",
    "TrajectoryGroup",
    "Transition",
    "current_rng",
    "extract_boxed",
    "get_dataset_builder",
    "grade_answer",
    "gsm8k_final_answer",
    "load_renderer",
    "seeded_rng",
]
