"""Advantages: how much better an episode did than the others of its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinker_rl.envs import TrajectoryGroup
from tinker_rl.errors import ConfigError, ShapeError

__all__ = [
    "check_group_sizes",
    "compute_advantages",
    "group_advantages",
    "has_constant_reward",
    "remove_constant_reward_groups",
]

Array: TypeAlias = npt.NDArray[Any]


def check_group_sizes(trajectory_groups_P: Sequence[TrajectoryGroup]) -> None:
    """Refuse groups of one: centred on themselves, they teach nothing.

    Raises:
        ConfigError: if there are groups, and none has two episodes.
    """
    if trajectory_groups_P and max(len(g.trajectories_G) for g in trajectory_groups_P) == 1:
        raise ConfigError(
            "dataset_builder: expected groups of at least two environments, since advantages are "
            "centred in the group; got groups of one, from which nothing is learned. Raise the "
            "dataset's group size."
        )


def group_advantages(reward_G: Sequence[float] | Array) -> Array:
    """Centre each return on the mean of its group.

    No division by the standard deviation: it would favour very easy and very hard prompts.

    Args:
        reward_G: Return of each episode of one group, in reward units. Shape [G], G >= 1, finite.
    Returns:
        Advantages, shape [G], float64. They sum to 0 up to rounding; an episode alone in its
        group has advantage 0, as has every episode of a group of equal returns, exactly.
    Raises:
        ShapeError: if `reward_G` is not one-dimensional, is empty or not finite.
    Source:
        GRPO, arXiv:2402.03300; without the standard deviation as in Dr. GRPO, arXiv:2503.20783.
    """
    rewards = np.asarray(reward_G, dtype=np.float64)
    if rewards.ndim != 1 or rewards.size == 0 or not np.all(np.isfinite(rewards)):
        raise ShapeError(
            f"group_advantages: expected finite returns of shape [G] with G >= 1; got "
            f"{rewards.tolist()}. Pass the returns of one group."
        )
    # Measured from the first, so that equal returns leave exact zeros, whatever they are.
    gains = rewards - rewards[0]
    return gains - gains.mean()


def compute_advantages(trajectory_groups_P: Sequence[TrajectoryGroup]) -> list[Array]:
    """`group_advantages` of every group: one array of shape [G] each, G as in the group."""
    return [group_advantages(group.get_total_rewards()) for group in trajectory_groups_P]


def has_constant_reward(group: TrajectoryGroup) -> bool:
    """Whether all episodes of the group earned the same, so that there is nothing to learn."""
    return len(set(group.get_total_rewards())) <= 1


def remove_constant_reward_groups(
    trajectory_groups_P: Sequence[TrajectoryGroup],
) -> list[TrajectoryGroup]:
    """The groups in which episodes earned different returns, in order; possibly none."""
    return [group for group in trajectory_groups_P if not has_constant_reward(group)]
