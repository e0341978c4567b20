"""The same group played twice: under the same seed, and with its members in another order."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tinker_rl.testing.checks.case import Case, Finding, Setup
from tinker_rl.testing.checks.properties.locating import of_builder, of_episode
from tinker_rl.testing.checks.records import PlayedEpisode, PlayedGroup

__all__ = ["deterministic", "isolated_members", "not_comparable", "not_deterministic"]


_SERIAL = "one member after the other"
_IN_TURN = "a call of each member in turn"
_REPLAYS = 8
"""Plays that must all be alike before global random numbers are blamed: a clock that decides like a
coin is the same in all of them once in 256 times."""


def not_deterministic(setup: Setup) -> str:
    """Why `deterministic` is left out."""
    return "" if setup.claims.deterministic else "deterministic=False was given"


def not_comparable(setup: Setup) -> str:
    """Why `isolated_members` is left out."""
    if setup.linked:
        return "the members are linked: they depend on each other"
    return not_deterministic(setup)


def deterministic(case: Case) -> Finding | None:
    """The same seed gives the same episode."""
    cause = _cause(case)
    if cause is None or cause[0] != "deterministic":
        return None
    _, hint, other = cause
    return _located(
        case.group,
        _first_difference(case.group, other),
        "expected the same episode from the same seed and actions; got {}. " + hint,
    )


def isolated_members(case: Case) -> Finding | None:
    """Members of a group do not change each other's episodes."""
    cause = _cause(case)
    if cause is None or cause[0] != "isolated_members":
        return None
    _, shared, other = cause
    found = f" They share and change {shared}." if shared else ""
    finding = _located(
        case.group,
        _first_difference(case.group, other),
        "expected the same episodes whether the members act one after the other or in turn; got "
        f"{{}}.{found} Make a new one of everything that changes for each environment; or, where "
        "members are to depend on each other, set linked = True on the builder.",
    )
    orders = _SERIAL, _IN_TURN if other is case.other else f"{_SERIAL}, a second time"
    return msgspec.structs.replace(finding, other=other, orders=orders)


def _cause(case: Case) -> tuple[str, str, PlayedGroup] | None:
    """Which property a difference breaks, a hint, and the play that is different.

    The other play changes two things at once, so that good environments need no third: the order
    of the members, and the global random numbers.
    """
    if "cause" not in case.memory:
        is_same = case.group.outcome == case.other.outcome
        case.memory["cause"] = None if is_same else _found_cause(case)
    return case.memory["cause"]


def _found_cause(case: Case) -> tuple[str, str, PlayedGroup]:
    linked = case.setup.linked
    order = "free" if linked else "serial"
    shared = ""
    for _ in range(_REPLAYS):
        again = case.play(order, watch=True)
        shared = _shared_and_changed(case, again)
        if again.outcome != case.group.outcome:
            if shared and not linked:
                return "isolated_members", shared, again
            return "deterministic", "Draw random numbers from current_rng(), and no clock.", again
    salted = case.play(order, salt=1)
    if salted.outcome != case.group.outcome or linked:
        hint = "It draws from a global random generator: take current_rng() instead."
        return "deterministic", hint, salted
    return "isolated_members", shared, case.other


def _shared_and_changed(case: Case, again: PlayedGroup) -> str:
    """What belongs to more than one environment, and is not what it was: since this play began, or
    since the first look, for what a play adds may be there already."""
    for shared in (again.shared, case.setup.shared):
        changed = shared.changed() if shared is not None else ""
        if changed:
            return changed
    return ""


class _Difference(NamedTuple):
    """The first place in which two plays are not the same."""

    episode: PlayedEpisode | None
    """None: not in what a member did."""
    method: str
    """Whose answer it is."""
    what: str


def _located(group: PlayedGroup, difference: _Difference, text: str) -> Finding:
    """A finding about it, at the method that gave the answer."""
    episode, method, what = difference
    if episode is not None:
        return of_episode(episode, text.format(what), method)
    finding = of_builder(group, text.format(what), method)
    return msgspec.structs.replace(finding, member=0)


def _first_difference(first: PlayedGroup, second: PlayedGroup) -> _Difference:
    for one, other in zip(first.episodes, second.episodes, strict=False):
        name = f"member {one.member}"
        for number, (seen, twin) in enumerate(
            zip(one.observations, other.observations, strict=False)
        ):
            if seen[0].to_ints() != twin[0].to_ints() or seen[1] != twin[1]:
                if number == 0:
                    return _Difference(
                        one, "initial_observation", f"another first observation for {name}"
                    )
                what = f"another observation for {name} after turn {number}"
                return _Difference(one, "step", what)
            if number >= min(len(one.turns), len(other.turns)):
                break
            rewards = one.rewards[number], other.rewards[number]
            if rewards[0] != rewards[1]:
                what = f"rewards {rewards[0]:g} and {rewards[1]:g} for {name} in turn {number + 1}"
                return _Difference(one, "step", what)
        if (one.end, len(one.turns)) != (other.end, len(other.turns)):
            what = (
                f"{len(one.turns)} turns ({one.end}) and {len(other.turns)} turns ({other.end}) "
                f"for {name}"
            )
            return _Difference(one, "step" if one.turns else "initial_observation", what)
        if one.observation.to_ints() != other.observation.to_ints():
            return _Difference(one, "step", f"another last observation for {name}")
    if len(first.episodes) != len(second.episodes):
        what = f"{len(first.episodes)} and {len(second.episodes)} members"
        return _Difference(None, "make_envs", what)
    return _Difference(None, "compute_group_rewards", "other group rewards")
