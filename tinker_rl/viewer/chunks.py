"""Episodes whole, a few groups at a time: tokens, and what is known of each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Trajectory, Transition
from tinker_rl.rl.failure_counts import describe_failure
from tinker_rl.rl.journal import TrainedMember
from tinker_rl.rl.outcomes import DroppedGroup, GroupOutcome, RolledOutGroup, UnfinishedEpisode
from tinker_rl.viewer.episodes import advantages_of, observed
from tinker_rl.viewer.plain import number, plain, significant, text
from tinker_rl.viewer.tokens import TokenText

__all__ = ["chunk", "episodes_of"]

Array: TypeAlias = npt.NDArray[Any]

_DIGITS = 4
_DECIMALS = 9
_RATIO_DECIMALS = 5


def chunk(episodes: Sequence[dict[str, Any]], tokens: TokenText) -> dict[str, Any]:
    """Episodes, with what each of their tokens says."""
    parts = [
        np.asarray(turn[name], np.int64)
        for episode in episodes
        for turn in episode["turns"]
        for name in ("observation", "action")
    ]
    ids = np.unique(np.concatenate(parts)).tolist() if parts else []
    return {
        "vocabulary": {str(token): tokens.text_of(token) for token in ids},
        "episodes": episodes,
    }


def episodes_of(
    group: int,
    step: int | None,
    outcome: GroupOutcome,
    trained: Mapping[int, TrainedMember],
    failures: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """The episodes of a group.

    Args:
        group: Its number.
        step: The step that trained it, if one did.
        outcome: How it ended.
        trained: What the learner said, by the place of the trajectory in the group.
        failures: Earlier times that the whole group was dropped.
    """
    head = {"group": group, "step": step}
    if isinstance(outcome, DroppedGroup):
        yield from (head | episode for episode in _dropped(outcome, failures))
        return
    rewards = outcome.group.get_total_rewards()
    advantages = advantages_of(rewards)
    places = outcome.members or range(len(rewards))
    turns = [
        list(_turns(trajectory.transitions, trained.get(index)))
        for index, trajectory in enumerate(outcome.group.trajectories_G)
    ]
    _round([turn for of_episode in turns for turn in of_episode])
    for index, place in enumerate(places):
        trajectory = outcome.group.trajectories_G[index]
        final = outcome.group.final_rewards_G[index]
        yield head | {
            "member": place,
            "outcome": "truncated" if trajectory.truncated else "completed",
            "reason": str(trajectory.stop_reason or "unknown"),
            "error": None,
            "failures": [*failures, *_failed_attempts(outcome, place)],
            "reward": rewards[index],
            "reward_parts": _reward_parts(trajectory, final),
            "metrics": _metrics(trajectory, outcome.group.metrics_G[index]),
            "advantage": advantages[index],
            "tags": [text(tag) for tag in outcome.tags],
            "turns": turns[index],
        }


def _dropped(outcome: DroppedGroup, failures: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The episode that broke; or those that had ended, if the group itself failed."""
    attempts = [
        f"{'the group' if f.member is None else f'member {f.member}'}, attempt {f.attempt}: "
        f"{text(describe_failure(f.failure))}"
        for f in outcome.failures
        if f.failure != outcome.failure
    ]
    same = {
        "outcome": "dropped",
        "reason": text(outcome.failure.error_type),
        "error": text(describe_failure(outcome.failure)),
        "failures": [*failures, *attempts],
        "reward": None,
        "reward_parts": {},
        "metrics": {},
        "advantage": None,
        "tags": [text(tag) for tag in outcome.tags],
    }
    if not outcome.trajectories:
        turns = _turns_until(outcome.failure.unfinished)
        yield same | {"member": outcome.member, "turns": turns}
    places = outcome.members or range(len(outcome.trajectories))
    for place, trajectory in zip(places, outcome.trajectories, strict=True):
        turns = list(_turns(trajectory.transitions, None))
        _round(turns)
        yield same | {"member": place, "turns": turns}


def _turns_until(unfinished: UnfinishedEpisode | None) -> list[dict[str, Any]]:
    """How far an episode had come when it broke; what nobody answered earns null."""
    if unfinished is None:
        return []
    nothing = TokensWithLogprobs([], [])
    last = Transition(unfinished.observation, unfinished.action or nothing, 0.0, False)
    turns = list(_turns([*unfinished.transitions, last], None))
    turns[-1]["reward"] = None
    if unfinished.action is None:
        turns[-1]["stop_reason"] = None
    _round(turns)
    return turns


def _failed_attempts(outcome: RolledOutGroup, place: int) -> list[str]:
    return [
        f"attempt {failed.attempt}: {text(describe_failure(failed.failure))}"
        for failed in outcome.failures
        if failed.member in (place, None)
    ]


def _reward_parts(trajectory: Trajectory, final: float) -> dict[str, float]:
    of_steps = float(sum(step.reward for step in trajectory.transitions))
    return {"step rewards": of_steps, "group reward": final}


def _metrics(trajectory: Trajectory, of_group: Mapping[str, float]) -> dict[str, Any]:
    """Those of the turns, averaged over the turns that have them, and those of the group."""
    found: dict[str, list[float]] = {}
    for step in trajectory.transitions:
        for name, value in step.metrics.items():
            found.setdefault(name, []).append(value)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    return {text(name): number(value) for name, value in {**means, **of_group}.items()}


# ---------------------------------------------------------------------------------------- turns


def _turns(
    transitions: Sequence[Transition], trained: TrainedMember | None
) -> Iterator[dict[str, Any]]:
    """The turns of an episode; `_round` makes lists of its arrays."""
    lengths = [len(step.ac.tokens) for step in transitions]
    ends = np.cumsum(lengths)[:-1]
    num_actions = sum(lengths)
    learner = _split(None if trained is None else trained.learner_logprobs, num_actions, ends)
    advantages = _split(None if trained is None else trained.advantages, num_actions, ends)
    seen = np.zeros(0, np.int64)
    for place, step in enumerate(transitions):
        observation = observed(step.ob)
        extends = bool(seen.size) and np.array_equal(observation[: seen.size], seen)
        action = _ints(step.ac.tokens)
        yield {
            "observation": (observation[seen.size :] if extends else observation).tolist(),
            "extends": extends,
            "action": action.tolist(),
            "logprobs": _floats(step.ac.maybe_logprobs),
            "learner_logprobs": learner and learner[place],
            "advantages": advantages and advantages[place],
            **_facts(step),
        }
        seen = np.concatenate([observation, action])


def _facts(step: Transition) -> dict[str, Any]:
    return {
        "versions": [list(span) for span in step.ac.spans],
        "reward": step.reward,
        "metrics": plain(step.metrics),
        "logs": plain(step.logs),
        "stop_reason": step.ac.stop_reason,
    }


def _ints(tokens: Sequence[int]) -> Array:
    try:
        return np.array(tokens, np.int64)
    except OverflowError:
        return np.array([i if -(2**53) < i < 2**53 else -1 for i in tokens], np.int64)


def _floats(values: Sequence[float] | None) -> Array | None:
    return None if values is None else np.array(values, np.float64)


def _round(turns: Sequence[dict[str, Any]]) -> None:
    """Make lists of short numbers of all arrays, in place; NaN becomes null. At once, as it is hot.

    What the learner said is rounded by how far it is from what the sampler said, so that their
    ratio is that of the exact numbers, to 1e-5.
    """
    both = [t for t in turns if t["logprobs"] is not None and t["learner_logprobs"] is not None]
    learner = _joined(both, "learner_logprobs") - _joined(both, "logprobs")
    with np.errstate(invalid="ignore"):
        near = significant(_joined(both, "logprobs"), _DIGITS) + np.round(learner, _RATIO_DECIMALS)
    _put(both, "learner_logprobs", np.round(near, _DECIMALS))
    for name in ("logprobs", "learner_logprobs", "advantages"):
        rest = [turn for turn in turns if isinstance(turn[name], np.ndarray)]
        _put(rest, name, significant(_joined(rest, name), _DIGITS))


def _joined(turns: Sequence[dict[str, Any]], name: str) -> Array:
    return np.concatenate([np.zeros(0), *(turn[name] for turn in turns)])


def _put(turns: Sequence[dict[str, Any]], name: str, joined: Array) -> None:
    values = joined.tolist()
    start = 0
    for turn in turns:
        end = start + turn[name].size
        turn[name] = values[start:end]
        start = end


def _split(values: Array | None, num_actions: int, ends: Array) -> list[Array] | None:
    """What is known of all actions, turn by turn; None where it is of the episode as a whole."""
    if values is None or values.size != num_actions or not num_actions:
        return None
    return np.split(values, ends)
