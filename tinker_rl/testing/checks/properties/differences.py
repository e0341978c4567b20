"""Where two plays of a script are not the same."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tinker_rl.testing.checks.case import Finding
from tinker_rl.testing.checks.properties.locating import of_builder, of_episode
from tinker_rl.testing.checks.records import PlayedEpisode, PlayedGroup

__all__ = ["Difference", "first_difference"]

_LONG = 3
"""Members that are listed, at most."""


class Difference(NamedTuple):
    """The first place in which two plays are not the same."""

    episode: PlayedEpisode | None
    """None: not in what a member did."""
    method: str
    """Whose answer it is."""
    what: str
    """The two, in words."""
    observations: tuple[list[int], list[int]] | None = None
    """The two, where they are observations."""

    def finding(self, group: PlayedGroup, text: str, method: str = "") -> Finding:
        """A finding about it, at the method that gave the answer.

        Args:
            group: The first of the plays.
            text: What is to be said, with `{}` for what is different.
            method: The builder's method that is the cause, where it is another.
        """
        episode = self.episode
        told = text.format(self.what)
        if episode is not None and method != "make_envs":
            return of_episode(episode, told, method or self.method)
        finding = of_builder(group, told, method or self.method)
        return msgspec.structs.replace(finding, member=episode.member if episode else 0)


def first_difference(first: PlayedGroup, second: PlayedGroup) -> Difference:
    """The first place in which two plays differ, of which one is known to be another."""
    if len(first.episodes) != len(second.episodes):
        what = f"{len(first.episodes)} and {len(second.episodes)} members"
        return Difference(None, "make_envs", what)
    for one, other in zip(first.episodes, second.episodes, strict=True):
        found = _in_episode(one, other)
        if found is not None:
            return found
    rewards = [
        None if group.rewarded is None else [float(r) for r in group.rewarded.final_rewards_G]
        for group in (first, second)
    ]
    shown = ""
    if all(rewards) and max(len(given or ()) for given in rewards) <= _LONG:
        shown = f": {rewards[0]} and {rewards[1]}"
    return Difference(None, "compute_group_rewards", f"other group rewards{shown}")


def _in_episode(one: PlayedEpisode, other: PlayedEpisode) -> Difference | None:
    name = f"member {one.member}"
    for number, (seen, twin) in enumerate(zip(one.observations, other.observations, strict=False)):
        tokens = seen[0].to_ints(), twin[0].to_ints()
        if tokens[0] != tokens[1] or seen[1] != twin[1]:
            method = "step" if number else "initial_observation"
            what = f"another observation for {name} after turn {number}"
            what = what if number else f"another first observation for {name}"
            return Difference(one, method, what, None if tokens[0] == tokens[1] else tokens)
        if number >= min(len(one.turns), len(other.turns)):
            break
        rewards = one.rewards[number], other.rewards[number]
        if rewards[0] != rewards[1]:
            what = f"rewards {rewards[0]:g} and {rewards[1]:g} for {name} in turn {number + 1}"
            return Difference(one, "step", what)
    if (one.end, len(one.turns)) != (other.end, len(other.turns)):
        what = (
            f"{len(one.turns)} turns ({one.end}) and {len(other.turns)} turns ({other.end}) "
            f"for {name}"
        )
        return Difference(one, "step" if one.turns else "initial_observation", what)
    if one.observation.to_ints() != other.observation.to_ints():
        return Difference(one, "step", f"another last observation for {name}")
    return None
