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
    "compute_ratio_quantiles",
    "compute_staleness_metrics",
    "compute_trajectory_metrics",
    "count_tokens_over_age",
    "dict_mean",
    "useful_token_fraction",
]

Array: TypeAlias = npt.NDArray[Any]

GOOD_REWARD = 0.5
"""A group of constant reward is all good from here, in reward units."""

_RATIO_PERCENTS = (1, 10, 50, 90, 99)
_AGES_TOLD_APART = 10


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
    sampler, learner = _action_logprobs(sequences, learner_logprobs_D)
    if not sampler.size:
        return {}
    difference = sampler - learner
    return {
        "optim/kl_sample_train_v1": float(difference.mean()),
        "optim/kl_sample_train_v2": float(0.5 * np.square(difference).mean()),
        "optim/entropy": float(-sampler.mean()),
    }


def compute_ratio_quantiles(
    sequences: Sequence[TrainingSequence], learner_logprobs_D: Sequence[Array]
) -> dict[str, float]:
    """How the importance ratios p / q of the action tokens are spread: all 1 on-policy.

    With q the sampler's and p the learner's probability of the token sampled. Losses that clip act
    on what lies outside of their bounds.

    Args:
        sequences: What was trained on.
        learner_logprobs_D: Per target token of each sequence, from `forward_backward`. Shape [T].
    Returns:
        `optim/ratio_p01`, `_p10`, `_p50`, `_p90`, `_p99` and `optim/ratio_max`; empty where nothing
        was trained.
    Raises:
        ShapeError: if the learner's logprobs do not match the targets one to one.
    """
    sampler, learner = _action_logprobs(sequences, learner_logprobs_D)
    if not sampler.size:
        return {}
    ratio = np.exp(learner - sampler)
    quantiles = np.quantile(ratio, [percent / 100 for percent in _RATIO_PERCENTS])
    named = zip(_RATIO_PERCENTS, quantiles, strict=True)
    return {
        **{f"optim/ratio_p{percent:02}": float(value) for percent, value in named},
        "optim/ratio_max": float(ratio.max()),
    }


def _action_logprobs(
    sequences: Sequence[TrainingSequence], learner_logprobs_D: Sequence[Array]
) -> tuple[Array, Array]:
    """The sampler's and the learner's logprobs of all action tokens. float64, same shape."""
    for sequence, logprobs in zip(sequences, learner_logprobs_D, strict=True):
        if logprobs.shape != sequence.loss_mask_T.shape:
            raise ShapeError(
                f"learner_logprobs_D: expected {sequence.loss_mask_T.size} logprobs, one per "
                f"target token; got shape {list(logprobs.shape)}. Pass the learner's output as is."
            )
    masks = [sequence.loss_mask_T for sequence in sequences]
    sampler = [sequence.sampler_logprobs_T for sequence in sequences]
    return _selected(sampler, masks), _selected(learner_logprobs_D, masks)


def _selected(values_D: Sequence[Array], masks_D: Sequence[Array]) -> Array:
    empty = np.empty(0, dtype=np.float64)
    return np.concatenate(
        [empty, *(values[mask] for values, mask in zip(values_D, masks_D, strict=True))]
    )


def compute_staleness_metrics(
    sequences: Sequence[TrainingSequence], policy_version: int
) -> dict[str, float]:
    """Age of the trained tokens, in policy versions: 0 on-policy.

    Args:
        sequences: What was trained on.
        policy_version: Version of the weights that the batch trains.
    Returns:
        `async/staleness_mean`, `async/staleness_min`, `async/staleness_max` over the action tokens
        whose version is known, and `async/age_<n>_frac`, the share of them of each age below 10
        that occurs; empty where there is none.
    """
    versions = _selected(
        [sequence.policy_version_T for sequence in sequences],
        [sequence.loss_mask_T for sequence in sequences],
    ).astype(np.int64)
    ages = policy_version - versions[versions != UNKNOWN_VERSION]
    if not ages.size:
        return {}
    found, counts = np.unique(ages[ages < _AGES_TOLD_APART], return_counts=True)
    shares = zip(found.tolist(), counts.tolist(), strict=True)
    return {
        "async/staleness_mean": float(ages.mean()),
        "async/staleness_min": int(ages.min()),
        "async/staleness_max": int(ages.max()),
        **{f"async/age_{age}_frac": count / ages.size for age, count in shares},
    }


def count_tokens_over_age(
    trajectory_groups_P: Sequence[TrajectoryGroup], oldest_version: int
) -> int:
    """Sampled tokens of versions below `oldest_version`; where no version is known, none."""
    spans = [
        span
        for group in trajectory_groups_P
        for trajectory in group.trajectories_G
        for transition in trajectory.transitions
        for span in transition.ac.spans
    ]
    known = [(version, count) for version, count in spans if version is not None]
    return sum(count for version, count in known if version < oldest_version)


def useful_token_fraction(num_trained_tokens: int, num_sampled_tokens: int) -> float:
    """Share of the sampled tokens that reached the learner; 1 where none was sampled.

    What a failed group sampled counts as wasted, and so does a dropped group of constant reward.
    """
    return _ratio(num_trained_tokens, num_sampled_tokens) if num_sampled_tokens else 1.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
