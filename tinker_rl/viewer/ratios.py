"""How far apart sampler and learner are on the actions of an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinker_rl.envs import Trajectory
from tinker_rl.rl.journal import TrainedMember

__all__ = ["max_ratios"]

Array: TypeAlias = npt.NDArray[Any]

_LARGEST_EXPONENT = 700.0
"""What is beyond is no float64."""


def max_ratios(trajectories_G: Sequence[Trajectory], trained: Mapping[int, TrainedMember]) -> Array:
    """Of each episode, the largest ratio of the probabilities that sampler and learner give to an
    action token, the larger over the smaller.

    Args:
        trajectories_G: The episodes of a group.
        trained: What the learner said, by the place of the trajectory.
    Returns:
        Ratios of at least 1; NaN where an episode has no token that both know. float64, shape [G].
    """
    sampler = [_sampler_logprobs(trajectory) for trajectory in trajectories_G]
    lengths = np.array([len(logprobs) for logprobs in sampler], np.int64)
    learner = [_learner_logprobs(trained.get(i), n) for i, n in enumerate(lengths.tolist())]
    flat = np.fromiter(chain.from_iterable(sampler), np.float64, int(lengths.sum()))
    apart = np.abs(np.concatenate([np.zeros(0), *learner]) - flat)
    ratios = np.full(lengths.size, np.nan)
    known = np.flatnonzero(~np.isnan(apart))
    owner = np.repeat(np.arange(lengths.size), lengths)[known]
    largest = np.full(lengths.size, -np.inf)
    np.maximum.at(largest, owner, apart[known])
    is_known = np.isfinite(largest) | (largest > 0)
    ratios[is_known] = np.exp(np.minimum(largest[is_known], _LARGEST_EXPONENT))
    return ratios


def _sampler_logprobs(trajectory: Trajectory) -> list[float]:
    """Of all actions in order; NaN where the sampler gave none."""
    found: list[float] = []
    for step in trajectory.transitions:
        logprobs = step.ac.maybe_logprobs
        found += [np.nan] * len(step.ac.tokens) if logprobs is None else logprobs
    return found


def _learner_logprobs(trained: TrainedMember | None, num_tokens: int) -> Array:
    if trained is None or trained.learner_logprobs.size != num_tokens:
        return np.full(num_tokens, np.nan)
    return trained.learner_logprobs.astype(np.float64)
