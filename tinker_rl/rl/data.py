"""From episodes to training sequences: one for as long as each observation extends the last."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.envs import Trajectory, TrajectoryGroup, Transition
from tinker_rl.errors import ShapeError
from tinker_rl.types import Datum, ModelInput, TensorData

__all__ = ["UNKNOWN_VERSION", "TrainingSequence", "assemble_training_data", "trajectory_to_data"]

Array: TypeAlias = npt.NDArray[Any]

UNKNOWN_VERSION = -1
"""`policy_version_T` where no version is known: on observations, and where nobody counts."""


class TrainingSequence(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One datum, and what is known of its tokens beside what the loss reads.

    Position t belongs to target token t. The losses mask by an advantage of 0; the arrays here
    also tell an action of advantage 0 from an observation.
    """

    datum: Datum
    """`target_tokens`, `logprobs` (the sampler's; 0 on observations) and `advantages` (0 on
    observations), each of shape [T]."""
    loss_mask_T: Array
    """True on action tokens. bool, shape [T]."""
    policy_version_T: Array
    """Version that sampled each action token, else `UNKNOWN_VERSION`. int64, shape [T]."""
    group: int
    """Number of the group in the run; its place in the batch where it has none."""
    member: int
    """Place of the episode in its group."""
    first_action: int = 0
    """Action tokens of the episode before this sequence."""

    @property
    def sampler_logprobs_T(self) -> Array:
        """The sampler's logprobs, 0 on observations. float32, shape [T]."""
        return self.datum.loss_fn_inputs["logprobs"].to_numpy()

    @property
    def num_action_tokens(self) -> int:
        """Tokens that train."""
        return int(self.loss_mask_T.sum())


def trajectory_to_data(
    trajectory: Trajectory, advantage: float, *, group: int = 0, member: int = 0
) -> list[TrainingSequence]:
    """The training sequences of one episode: as few as its observations allow.

    While an observation is the one before it, the action taken on it and more tokens, the turns are
    one sequence, and the shared prefix is there once. Where history was rewritten, a new one
    begins. Turns without action tokens train nothing and leave no sequence of their own.

    Args:
        trajectory: The episode. Every action token has a logprob.
        advantage: Of the episode; all its action tokens get it.
    Raises:
        ShapeError: if an action has no token before it to be predicted from, or a logprob or the
            advantage is not finite.
        RequestError: if the completer gave no logprobs.
    """
    if not np.isfinite(advantage):
        raise ShapeError(
            f"trajectory_to_data.advantage: expected a finite number; got {advantage}. "
            "Look for the reward it came from."
        )
    runs = _extending_runs(trajectory.transitions)
    built: list[TrainingSequence] = []
    first_action = 0
    for turns, tokens in runs:
        sequence = _sequence(turns, tokens, advantage, group, member, first_action)
        first_action += sequence.num_action_tokens
        if sequence.num_action_tokens:
            built.append(sequence)
    return built


def assemble_training_data(
    trajectory_groups_P: Sequence[TrajectoryGroup],
    advantages_P: Sequence[Array],
    numbers_P: Sequence[int] | None = None,
) -> list[list[TrainingSequence]]:
    """The training sequences of each group, given its advantages of shape [G], and its number."""
    numbers = range(len(trajectory_groups_P)) if numbers_P is None else numbers_P
    return [
        [
            sequence
            for member, (trajectory, advantage) in enumerate(
                zip(group.trajectories_G, advantages_G, strict=True)
            )
            for sequence in trajectory_to_data(
                trajectory, float(advantage), group=number, member=member
            )
        ]
        for group, advantages_G, number in zip(
            trajectory_groups_P, advantages_P, numbers, strict=True
        )
    ]


Turn: TypeAlias = tuple[Transition, Array]
"""A transition and its observation's new tokens: those that the turns before do not cover."""


def _extending_runs(transitions: Sequence[Transition]) -> list[tuple[list[Turn], Array]]:
    """Runs of turns whose observations extend one another, each with all its tokens."""
    runs: list[tuple[list[Turn], Array]] = []
    for transition in transitions:
        observation = _tokens(transition.ob)
        turns, seen = runs[-1] if runs else ([], observation[:0])
        if not np.array_equal(observation[: seen.size], seen) or not runs:
            turns, seen = [], observation[:0]
            runs.append((turns, seen))
        turns.append((transition, observation[seen.size :]))
        action = np.array(transition.ac.tokens, dtype=np.int64)
        runs[-1] = (turns, np.concatenate([observation, action]))
    return runs


def _sequence(
    turns: Sequence[Turn],
    tokens: Array,
    advantage: float,
    group: int,
    member: int,
    first_action: int,
) -> TrainingSequence:
    """One run of turns as a sequence; input i predicts target i, so the first is no target."""
    lengths = np.array([(new.size, len(turn.ac.tokens)) for turn, new in turns]).ravel()
    mask = np.repeat(np.tile([False, True], len(turns)), lengths)
    if mask.size and mask[0]:
        raise ShapeError(
            "trajectory_to_data: expected an observation of at least one token before an action; "
            "got an empty one. Begin the prompt with a token, such as the beginning of sequence."
        )
    logprobs = np.zeros(tokens.size, dtype=np.float32)
    logprobs[mask] = np.fromiter(chain.from_iterable(t.ac.logprobs for t, _ in turns), np.float32)
    if not np.all(np.isfinite(logprobs)):
        raise ShapeError(
            "trajectory_to_data: expected finite logprobs of the sampled tokens; got "
            f"{logprobs[~np.isfinite(logprobs)][0]}. Look for the fault in the sampler."
        )
    versions = np.full(tokens.size, UNKNOWN_VERSION, dtype=np.int64)
    versions[mask] = _versions([turn for turn, _ in turns])
    datum = Datum(
        model_input=ModelInput.from_ints(tokens[:-1].tolist()),
        loss_fn_inputs={
            "target_tokens": TensorData(tokens[1:]),
            "logprobs": TensorData(logprobs[1:]),
            "advantages": TensorData(np.where(mask[1:], advantage, 0.0).astype(np.float32)),
        },
    )
    return TrainingSequence(
        datum=datum,
        loss_mask_T=mask[1:],
        policy_version_T=versions[1:],
        group=group,
        member=member,
        first_action=first_action,
    )


def _tokens(model_input: ModelInput) -> Array:
    """Token ids, int64, shape [T]."""
    return np.fromiter(chain.from_iterable(c.tokens for c in model_input.chunks), np.int64)


def _versions(transitions: Sequence[Transition]) -> Array:
    """The version of each action token, int64."""
    spans = [span for transition in transitions for span in transition.ac.spans]
    versions = [UNKNOWN_VERSION if version is None else version for version, _ in spans]
    counts = [count for _, count in spans]
    return np.repeat(np.array(versions, np.int64), np.array(counts, np.int64))
