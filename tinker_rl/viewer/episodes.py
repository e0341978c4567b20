"""The list of a run's episodes, a number or two of each, in columns."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Trajectory
from tinker_rl.rl.advantages import group_advantages
from tinker_rl.rl.outcomes import DroppedGroup, RolledOutGroup, UnfinishedEpisode
from tinker_rl.viewer.plain import NONE, Names, significant, text, with_nulls
from tinker_rl.viewer.titles import LENGTH, title_of
from tinker_rl.viewer.tokens import TokenText

__all__ = ["EpisodeRow", "EpisodeTable", "advantages_of", "observed", "rows_of"]

Array: TypeAlias = npt.NDArray[Any]

_DIGITS = 9


class EpisodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the list says of an episode."""

    member: int = NONE
    """Place in the group."""
    version: int = NONE
    """Of the first token."""
    reward: float = np.nan
    advantage: float = np.nan
    outcome: str
    reason: str
    turns: int = 0
    tokens: int = 0
    """Of its actions."""
    tag: str = ""
    title: str = ""


_INTS = ("group", "member", "version", "turns", "tokens", "outcome", "reason", "tag", "title")
_FLOATS = ("reward", "advantage", "max_ratio")
_TEXTS = {"outcome": "outcomes", "reason": "reasons", "tag": "tags", "title": "titles"}


class EpisodeTable:
    """Rows by group. A group's rows are put all at once, and may be put again."""

    def __init__(self) -> None:
        self._ints = {name: array("q") for name in _INTS}
        self._floats = {name: array("d") for name in _FLOATS}
        self._names = {name: Names() for name in _TEXTS}
        self._places: dict[int, range] = {}
        """Of each group, where its rows are."""

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def count(self) -> tuple[int, int]:
        """Episodes, and groups that were dropped; the rows of these are no episodes."""
        groups = np.array(self._ints["group"], np.int64)
        names = self._names["outcome"].names
        outcome = names.index("dropped") if "dropped" in names else NONE
        is_dropped = np.array(self._ints["outcome"], np.int64) == outcome
        num_episodes = ((groups != NONE) & ~is_dropped).sum()
        return int(num_episodes), np.unique(groups[(groups != NONE) & is_dropped]).size

    def put(self, group: int, rows: Sequence[EpisodeRow], max_ratios: Array | None = None) -> None:
        """Rows of a group, in place of those it has, and of each the largest ratio of sampler and
        learner; None: not known. float64, shape [rows]."""
        old = self._places.get(group)
        for place in old or ():
            self._ints["group"][place] = NONE
        first = len(self._ints["group"])
        self._places[group] = range(first, first + len(rows))
        for name, column in self._ints.items():
            if name == "group":
                column.extend([group] * len(rows))
            elif name in self._names:
                column.extend([self._names[name].place(getattr(row, name)) for row in rows])
            else:
                column.extend([getattr(row, name) for row in rows])
        for name in ("reward", "advantage"):
            self._floats[name].extend([getattr(row, name) for row in rows])
        ratios = np.full(len(rows), np.nan) if max_ratios is None else max_ratios
        self._floats["max_ratio"].extend(ratios.tolist())

    def columns(
        self, step_of: Callable[[int], int | None], chunk_of: Callable[[int], int | None]
    ) -> dict[str, Any]:
        """All rows, by group and member, as the page takes them.

        Args:
            step_of: The step that trained a group.
            chunk_of: Where the text of a group's episodes is; None: it is left out.
        """
        ints = {name: np.array(column) for name, column in self._ints.items()}
        kept = np.flatnonzero(ints["group"] != NONE)
        order = kept[np.lexsort((ints["member"][kept], ints["group"][kept]))]
        ints = {name: column[order] for name, column in ints.items()}
        floats = {name: np.array(column)[order] for name, column in self._floats.items()}
        groups, place_of_row = np.unique(ints["group"], return_inverse=True)
        found: dict[str, Any] = {"count": int(order.size)}
        found |= {name: with_nulls(column) for name, column in ints.items()}
        found |= {name: significant(column, _DIGITS).tolist() for name, column in floats.items()}
        found |= {plural: self._names[name].names for name, plural in _TEXTS.items()}
        for name, look_up in (("step", step_of), ("chunk", chunk_of)):
            values = [look_up(group) for group in groups.tolist()]
            known = np.array([NONE if value is None else value for value in values], np.int64)
            found[name] = with_nulls(known[place_of_row])
        return found


def rows_of(outcome: RolledOutGroup | DroppedGroup, tokens: TokenText) -> list[EpisodeRow]:
    """A row for each trajectory of a group, in order; one in all if an episode broke."""
    if isinstance(outcome, DroppedGroup):
        return _dropped(outcome)
    group = outcome.group
    rewards = group.get_total_rewards()
    advantages = advantages_of(rewards)
    places = outcome.members or range(len(rewards))
    tag = _joined(outcome.tags)
    titles: dict[bytes, str] = {}
    rows: list[EpisodeRow] = []
    for index, (place, trajectory) in enumerate(zip(places, group.trajectories_G, strict=True)):
        rows.append(
            EpisodeRow(
                member=place,
                reward=rewards[index],
                advantage=advantages[index],
                outcome="truncated" if trajectory.truncated else "completed",
                reason=str(trajectory.stop_reason or "unknown"),
                tag=tag,
                title=_title(trajectory, tokens, titles),
                **_size(trajectory),
            )
        )
    return rows


def _dropped(outcome: DroppedGroup) -> list[EpisodeRow]:
    same = EpisodeRow(
        outcome="dropped",
        reason=text(outcome.failure.error_type),
        tag=_joined(outcome.tags),
        title=" ".join(text(outcome.failure.error)[: 4 * LENGTH].split())[:LENGTH],
    )
    if not outcome.trajectories:
        unfinished = outcome.failure.unfinished
        broken = msgspec.structs.replace(
            same,
            member=NONE if outcome.member is None else outcome.member,
            version=_version_until(unfinished),
            turns=unfinished.num_turns if unfinished else 0,
            tokens=outcome.num_sampled_tokens,
        )
        return [broken]
    places = outcome.members or range(len(outcome.trajectories))
    return [
        msgspec.structs.replace(same, member=place, **_size(trajectory))
        for place, trajectory in zip(places, outcome.trajectories, strict=True)
    ]


def _size(trajectory: Trajectory) -> dict[str, int]:
    actions = [step.ac for step in trajectory.transitions]
    num_tokens = sum(len(action.tokens) for action in actions)
    return {"version": _first_version(actions), "turns": len(actions), "tokens": num_tokens}


def advantages_of(rewards: Sequence[float]) -> list[float]:
    """`group_advantages` of any returns; NaN where they are beyond what floats hold."""
    if not rewards or not np.isfinite(rewards).all():
        return [np.nan] * len(rewards)
    return group_advantages(rewards).tolist()


def _joined(tags: Sequence[str]) -> str:
    return ", ".join(map(text, tags))


def _version_until(unfinished: UnfinishedEpisode | None) -> int:
    """Of the first token of an episode that broke."""
    if unfinished is None:
        return NONE
    answered = [step.ac for step in unfinished.transitions]
    return _first_version(answered + ([unfinished.action] if unfinished.action else []))


def _first_version(actions: Sequence[TokensWithLogprobs]) -> int:
    for action in actions:
        if action.tokens:
            return NONE if action.policy_version is None else action.policy_version
    return NONE


def _title(trajectory: Trajectory, tokens: TokenText, known: dict[bytes, str]) -> str:
    """Members of a group share their prompt, as a rule."""
    if not trajectory.transitions:
        return ""
    prompt = observed(trajectory.transitions[0].ob)
    key = prompt.tobytes()
    if key not in known:
        known[key] = title_of(prompt, tokens)
    return known[key]


def observed(observation: Any) -> Array:
    """Token ids of an observation; -1 for what is no id of any vocabulary. int64, shape [T]."""
    try:
        return observation.to_numpy()
    except OverflowError:
        return np.array([i if -(2**53) < i < 2**53 else NONE for i in observation.to_ints()])
