"""Whether the members of a group have the same task, though it cannot be seen in the prompt."""

from __future__ import annotations

from collections.abc import Sequence

from tinker_rl.testing.checks.case import Case, Setup
from tinker_rl.testing.checks.records import PlayedEpisode
from tinker_rl.testing.checks.variant import Variant
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.scripts import GroupScript

__all__ = ["unlike_members"]

_MOST = 8
"""Episodes that are played."""


def unlike_members(setup: Setup, episodes: Sequence[tuple[DrawnAction, ...]]) -> list[str]:
    """A note, where members do the same under the same random numbers, and earn or see another.

    Dice that an environment throws with `current_rng()` fall alike; what `make_envs` drew for each
    member does not.

    Args:
        setup: What is checked.
        episodes: What all members of a group do, in one play each.
    """
    if setup.linked or not setup.claims.deterministic:
        return []
    for actions in episodes[:_MOST]:
        case = Case(setup, GroupScript(0, (actions,) * setup.size))
        played = case.play(case.order, Variant(is_alike=True)).episodes
        for other in played[1:]:
            found = _difference(played[0], other)
            if found:
                return [
                    f"members of a group who do the same get different answers, under the same "
                    f"random numbers: {found}. Their rewards are compared: unless that is meant, "
                    "draw the task once for the group, in its builder or in make_envs"
                ]
    return []


def _difference(first: PlayedEpisode, other: PlayedEpisode) -> str:
    if first.broken is not None or other.broken is not None:
        return ""
    for number, (one, two) in enumerate(zip(first.turns, other.turns, strict=False), 1):
        where = f"in turn {number} of members {first.member} and {other.member}"
        rewards = one.result.reward, two.result.reward
        if rewards[0] != rewards[1]:
            return f"rewards {rewards[0]:g} and {rewards[1]:g} {where}"
        answers = [turn.result.next_observation.to_ints() for turn in (one, two)]
        if answers[0] != answers[1]:
            return f"other observations {where}"
    return ""
