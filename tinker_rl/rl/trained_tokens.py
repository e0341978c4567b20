"""What the learner said of a batch, put in the order of the episodes' own tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tinker_rl.envs import Trajectory
from tinker_rl.rl.data import UNKNOWN_VERSION
from tinker_rl.rl.journal import GroupRecord, TrainedMember, TrainedRecord
from tinker_rl.rl.learner import TrainStepOutput
from tinker_rl.rl.outcomes import RolledOutGroup

__all__ = ["trained_record"]

Array: TypeAlias = npt.NDArray[Any]


class _Said(NamedTuple):
    """What was said of the action tokens of one sequence."""

    first_action: int
    """Place of the first in the episode."""
    learner_logprobs: Array
    """float32, shape [n]."""
    advantages: Array
    """float32, shape [n]."""


def trained_record(
    step: int, records: Sequence[GroupRecord], trained: TrainStepOutput
) -> TrainedRecord:
    """The learner's logprobs and the advantages of every action token that it saw.

    Args:
        step: The step.
        records: Groups of the batch.
        trained: What the learner said of it.
    """
    said: dict[tuple[int, int], list[_Said]] = defaultdict(list)
    for sequence, of_actions in zip(trained.sequences, _of_actions(trained), strict=True):
        said[sequence.group, sequence.member].append(of_actions)
    members = [
        _member(record.group, member, trajectory, said[record.group, member])
        for record in records
        if isinstance(record.outcome, RolledOutGroup)
        for member, trajectory in enumerate(record.outcome.group.trajectories_G)
        if (record.group, member) in said
    ]
    return TrainedRecord(step=step, members=tuple(members))


def _member(
    group: int, member: int, trajectory: Trajectory, said: Sequence[_Said]
) -> TrainedMember:
    size = sum([len(transition.ac.tokens) for transition in trajectory.transitions])
    if len(said) == 1 and said[0].advantages.size == size:
        _, learner_logprobs, advantages = said[0]  # as a rule
    else:
        learner_logprobs = np.full(size, np.nan, np.float32)
        advantages = np.full(size, np.nan, np.float32)
        for first_action, values, gains in said:
            here = slice(first_action, first_action + values.size)
            learner_logprobs[here], advantages[here] = values, gains
    if size and (advantages == advantages[0]).all():
        advantages = advantages[:1]
    return TrainedMember(
        group=group, member=member, learner_logprobs=learner_logprobs, advantages=advantages
    )


def _of_actions(trained: TrainStepOutput) -> Iterator[_Said]:
    """What was said of the action tokens of each sequence; picked out of all at once.

    Actions that are masked for their age are no part of the loss mask, but have a version.
    """
    sequences = trained.sequences
    if not sequences:
        return
    mask = np.concatenate([sequence.loss_mask_T for sequence in sequences])
    versions = np.concatenate([sequence.policy_version_T for sequence in sequences])
    is_action = mask | (versions != UNKNOWN_VERSION)
    logprobs = np.concatenate(trained.learner_logprobs_D).astype(np.float32, copy=False)
    advantages = np.concatenate(
        [sequence.datum.loss_fn_inputs["advantages"].to_numpy() for sequence in sequences]
    )
    ends = np.cumsum([sequence.loss_mask_T.size for sequence in sequences])
    bounds = np.concatenate([[0], np.cumsum(is_action)[ends - 1]]).tolist()
    values, gains = logprobs[is_action], advantages[is_action]
    for sequence, start, end in zip(sequences, bounds, bounds[1:], strict=False):
        yield _Said(sequence.first_action, values[start:end], gains[start:end])
