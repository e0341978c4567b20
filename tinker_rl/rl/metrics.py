"""What a step tells about itself: rewards, tokens, distance between sampler and learner, age.

Names are those of the Tinker cookbook where it has them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinker_rl.envs import TrajectoryGroup
from tinker_rl.errors import ShapeError
from tinker_rl.rl.advantages import has_constant_reward
from tinker_rl.rl.data import UNKNOWN_VERSION, TrainingSequence

__all__ = [
    "compute_kl_sample_train",
    "compute_staleness_metrics",
    "compute_trajectory_metrics",
    "dict_mean",
    "useful_token_fraction",
]

Array: TypeAlias = npt.NDArray[Any]

GOOD_REWARD = 0.5
"""A group of constant reward is all good from here, in reward units."""


def compute_trajectory_metrics(
    trajectory_groups_P: Sequence[TrajectoryGroup], taglist_P: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Rewards, lengths and the environments' own metrics.

    Args:
        trajectory_groups_P: Groups.
        taglist_P: Tags of each group.
    Returns:
        `env/all/<name>` over all groups, and `env/<tag>/<name>` for every tag once some tag does
        not cover them all. Empty without groups.
    """
    by_tag: dict[str, list[TrajectoryGroup]] = defaultdict(list)
    for group, tags in zip(trajectory_groups_P, taglist_P, strict=True):
        for tag in dict.fromkeys(tags):
            by_tag[tag].append(group)
    if all(len(groups) == len(trajectory_groups_P) for groups in by_tag.values()):
        by_tag = {}
    by_tag["all"] = list(trajectory_groups_P)
    return {
        f"env/{tag}/{name}": value
        for tag, groups in by_tag.items()
        for name, value in _group_metrics(groups).items()
    }


def _group_metrics(groups: Sequence[TrajectoryGroup]) -> dict[str, float]:
    if not groups:
        return {}
    trajectories = [trajectory for group in groups for trajectory in group.trajectories_G]
    transitions = [step for trajectory in trajectories for step in trajectory.transitions]
    num_action_tokens = sum(len(step.ac.tokens) for step in transitions)
    num_observation_tokens = sum(step.ob.length for step in transitions)
    rewards = [reward for group in groups for reward in group.get_total_rewards()]
    reported = [step.metrics for step in transitions]
    reported += [metrics for group in groups for metrics in group.metrics_G]
    return {
        "reward/total": _mean(rewards),
        "ac_tokens_per_turn": _ratio(num_action_tokens, len(transitions)),
        "ob_tokens_per_turn": _ratio(num_observation_tokens, len(transitions)),
        "turns_per_episode": _ratio(len(transitions), len(trajectories)),
        "total_episodes": len(trajectories),
        "total_turns": len(transitions),
        "total_ac_tokens": num_action_tokens,
        "total_ob_tokens": num_observation_tokens,
        "truncated": _mean([trajectory.truncated for trajectory in trajectories]),
        **dict_mean(reported),
        **_by_group_metrics(groups),
    }


def _by_group_metrics(groups: Sequence[TrajectoryGroup]) -> dict[str, float]:
    """Fractions of the groups in which all did well, all did badly, and neither."""
    constant = np.array([has_constant_reward(group) for group in groups])
    good = np.array([group.get_total_rewards()[0] >= GOOD_REWARD for group in groups])
    return {
        "by_group/frac_mixed": float((~constant).mean()),
        "by_group/frac_all_good": float((constant & good).mean()),
        "by_group/frac_all_bad": float((constant & ~good).mean()),
    }


def dict_mean(dicts: Iterable[Mapping[str, float | int]]) -> dict[str, float]:
    """The mean of each key over the mappings that have it."""
    values: dict[str, list[float]] = defaultdict(list)
    for metrics in dicts:
        for name, value in metrics.items():
            values[name].append(float(value))
    return {name: _mean(found) for name, found in values.items()}


def compute_kl_sample_train(
    sequences: Sequence[TrainingSequence], learner_logprobs_D: Sequence[Array]
) -> dict[str, float]:
    """How far the learner's distribution is from the one that was sampled from.

    Over action tokens, with q the sampler's and p the learner's probability of the token sampled:
    `v1` is the mean of log q - log p, which estimates KL(q || p) without bias; `v2` is half the
    mean of its square, which is never negative and varies less. The entropy is the mean of -log q.

    Args:
        sequences: What was trained on.
        learner_logprobs_D: Per target token of each sequence, from `forward_backward`. Shape [T].
    Returns:
        `optim/kl_sample_train_v1`, `optim/kl_sample_train_v2`, `optim/entropy`, in nats; empty
        where nothing was trained.
    Raises:
        ShapeError: if the learner's logprobs do not match the targets one to one.
    Source:
        J. Schulman, "Approximating KL Divergence", 2020, estimators k1 and k2.
    """
    if not sequences:
        return {}
    for sequence, logprobs in zip(sequences, learner_logprobs_D, strict=True):
        if logprobs.shape != sequence.loss_mask_T.shape:
            raise ShapeError(
                f"compute_kl_sample_train: expected {sequence.loss_mask_T.size} logprobs, one per "
                f"target token; got shape {list(logprobs.shape)}. Pass the learner's output as is."
            )
    mask = np.concatenate([sequence.loss_mask_T for sequence in sequences])
    sampler = np.concatenate([sequence.sampler_logprobs_T for sequence in sequences])[mask]
    learner = np.concatenate(list(learner_logprobs_D))[mask]
    difference = sampler.astype(np.float64) - learner
    return {
        "optim/kl_sample_train_v1": float(difference.mean()),
        "optim/kl_sample_train_v2": float(0.5 * np.square(difference).mean()),
        "optim/entropy": float(-sampler.mean(dtype=np.float64)),
    }


def compute_staleness_metrics(
    sequences: Sequence[TrainingSequence], policy_version: int
) -> dict[str, float]:
    """Age of the trained tokens, in policy versions: 0 on-policy.

    Args:
        sequences: What was trained on.
        policy_version: Version of the weights that the batch trains.
    Returns:
        `async/staleness_mean`, `async/staleness_min`, `async/staleness_max` over the action tokens
        whose version is known; empty where there is none.
    """
    empty = np.empty(0, dtype=np.int64)
    versions = np.concatenate([empty, *(s.policy_version_T[s.loss_mask_T] for s in sequences)])
    ages = policy_version - versions[versions != UNKNOWN_VERSION]
    if not ages.size:
        return {}
    return {
        "async/staleness_mean": float(ages.mean()),
        "async/staleness_min": int(ages.min()),
        "async/staleness_max": int(ages.max()),
    }


def useful_token_fraction(num_trained_tokens: int, num_sampled_tokens: int) -> float:
    """Share of the sampled tokens that reached the learner; 1 where none was sampled.

    What a failed group sampled counts as wasted, and so does a dropped group of constant reward.
    """
    return _ratio(num_trained_tokens, num_sampled_tokens) if num_sampled_tokens else 1.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
