"""What a run writes down: groups as they finish, batches as they are trained on, and its starts."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.rl.outcomes import DroppedGroup, GroupOutcome

__all__ = [
    "CommitRecord",
    "EvaluationRecord",
    "FailureRecord",
    "GroupRecord",
    "Record",
    "ReferenceLogprobs",
    "StartRecord",
    "TrainedMember",
    "TrainedRecord",
    "TrainingOptions",
]

ReferenceLogprobs: TypeAlias = tuple[tuple[npt.NDArray[np.float32], ...], ...]
"""Of each member, of each of its training sequences: float32, shape [T]."""


class GroupRecord(msgspec.Struct, frozen=True, kw_only=True, eq=False, tag="group"):
    """A group that is finished: it is never sampled again.

    Equality is identity, as it holds arrays; `codec.encode` of two equal ones gives equal bytes.
    """

    group: int
    """Its number."""
    policy_version: int
    """Version it was admitted with; with `lag="newest"`, episodes may begin with newer ones."""
    outcome: GroupOutcome | None
    """None: a number without a group."""
    reference_logprobs: ReferenceLogprobs | None = None
    """Natural logs of the KL reference's probabilities, where there is a reference."""


class FailureRecord(msgspec.Struct, frozen=True, kw_only=True, tag="failure"):
    """That a group was dropped, written at once, for people to read.

    The group is not finished by it: until its batch is committed, a restart tries it again, and
    each try that fails leaves such a record.
    """

    group: int
    """Its number."""
    policy_version: int
    """Version it was admitted with."""
    outcome: DroppedGroup


class TrainingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides, beside its groups, what a batch does to the weights."""

    learning_rate: float
    loss_fn: str
    loss_fn_config: dict[str, float] | None = None
    num_substeps: int = 1
    num_minibatches: int | None = None
    """Equal parts of a substep, one `forward_backward` each; None: the batch is taken whole, and
    the groups that have something to train are split evenly between substeps."""
    remove_constant_reward_groups: bool = False
    kl_penalty_coef: float = 0.0
    kl_discount_factor: float = 0.0
    max_token_age: int | None = None
    """Age in versions past which a token does not train; None: all do."""

    @property
    def num_parts(self) -> int:
        """Parts in which a batch is handed to the learner."""
        return 1 if self.num_minibatches is None else self.num_minibatches * self.num_substeps


class CommitRecord(msgspec.Struct, frozen=True, kw_only=True, tag="commit"):
    """A batch that was trained on; it makes version `step + 1`."""

    step: int
    groups: tuple[int, ...]
    """Numbers of its groups, in the order in which they trained."""
    weight_hash: str | None
    """Of the weights that it made; None where nobody computed it."""
    acting_version: int
    """Version that samples from here on; older than `step + 1` where publishing failed."""
    sampler_path: str | None = None
    """Where the weights of version `step + 1` are, to sample from."""
    metrics: dict[str, Any] = {}
    training: TrainingOptions | None = None
    """How it trained, so that it can be done again."""


class StartRecord(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """A start of the run. Commits before it that made a version above `version` are void."""

    version: int
    """Version that it starts from: the step to train next."""
    weight_hash: str | None
    sampler_path: str | None = None
    options_hash: str | None = None
    """Of the options that decide what group numbers mean and how they train."""


class EvaluationRecord(msgspec.Struct, frozen=True, kw_only=True, tag="evaluation"):
    """What the evaluators said of a version."""

    version: int
    metrics: dict[str, float]


class TrainedMember(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the learner made of the actions of one episode, all turns in order: `n` tokens."""

    group: int
    """Number of its group."""
    member: int
    """Place of its trajectory in the group."""
    learner_logprobs: npt.NDArray[np.float32]
    """Natural log-probability of each action token under the weights that its substep began with;
    NaN where the learner did not see the token. Shape [n]."""
    advantages: npt.NDArray[np.float32]
    """With which each action token trained, penalties included; 0 where it was masked, NaN where
    the learner did not see it. Shape [n], or [1] where all are the same."""


class TrainedRecord(msgspec.Struct, frozen=True, kw_only=True, eq=False, tag="trained"):
    """What the learner said of a batch, token by token, for people to look at.

    It comes before the commit of its step, and counts only with it.
    """

    step: int
    members: tuple[TrainedMember, ...]
    """The episodes of which anything trained."""


Record: TypeAlias = (
    GroupRecord | FailureRecord | CommitRecord | StartRecord | EvaluationRecord | TrainedRecord
)
"""Anything that a journal holds."""
