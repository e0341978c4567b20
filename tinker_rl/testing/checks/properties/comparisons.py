"""The same group played twice: under the same seed, and with its members in another order."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tinker_rl.testing.checks.case import Case, Finding, Setup
from tinker_rl.testing.checks.properties.differences import first_difference
from tinker_rl.testing.checks.records import PlayedGroup
from tinker_rl.testing.checks.variant import Variant

__all__ = ["deterministic", "isolated_members", "not_comparable", "not_deterministic"]


_EARLY = ("make_envs", "initial_observation")
"""Methods whose random numbers may be seen in the answers of others."""
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
    if cause is None or cause.rule != "deterministic":
        return None
    text = f"expected the same episode from the same seed and actions; got {{}}. {cause.hint}"
    return first_difference(case.group, cause.other).finding(case.group, text, cause.method)


def isolated_members(case: Case) -> Finding | None:
    """Members of a group do not change each other's episodes."""
    cause = _cause(case)
    if cause is None or cause.rule != "isolated_members":
        return None
    is_order = cause.other is case.other
    expected = (
        "whether the members act one after the other or in turn"
        if is_order
        else "when the group is played a second time"
    )
    found = f" They share and change {cause.hint}." if cause.hint else ""
    finding = first_difference(case.group, cause.other).finding(
        case.group,
        f"expected the same episodes {expected}; got {{}}.{found} Make a new one of everything "
        "that changes for each environment; or, where members are to depend on each other, set "
        "linked = True on the builder.",
    )
    orders = _SERIAL, _IN_TURN if is_order else f"{_SERIAL}, a second time"
    return msgspec.structs.replace(finding, other=cause.other, orders=orders)


class _Cause(NamedTuple):
    """Why two plays are not the same."""

    rule: str
    """The property that is broken."""
    hint: str
    """What to do about it; what is shared."""
    other: PlayedGroup
    """The play that is different."""
    method: str = ""
    """Where it comes from, if that is known and not where it is seen."""


def _cause(case: Case) -> _Cause | None:
    """What a difference comes from.

    The other play changes two things at once, so that good environments need no third: the order
    of the members, and the global random numbers.
    """
    if "cause" not in case.memory:
        is_same = case.group.outcome == case.other.outcome
        case.memory["cause"] = None if is_same else _found_cause(case)
    return case.memory["cause"]


def _found_cause(case: Case) -> _Cause:
    linked = case.setup.linked
    shared = ""
    for _ in range(_REPLAYS):
        again = case.play(case.order, watch=True)
        shared = _shared_and_changed(case, again)
        if again.outcome != case.group.outcome:
            if shared and not linked:
                return _Cause("isolated_members", shared, again)
            hint = "Draw random numbers from current_rng(), and no clock."
            return _Cause("deterministic", hint, again)
    salted = case.play(case.order, Variant(salt=1))
    if salted.outcome == case.group.outcome and not linked:
        return _Cause("isolated_members", shared, case.other)
    hint = "It draws from a global random generator: take current_rng() instead."
    for method in _EARLY:
        early = case.play(case.order, Variant(salt=1, salted=method))
        if early.outcome != case.group.outcome:
            return _Cause("deterministic", hint, early, method)
    return _Cause("deterministic", hint, salted)


def _shared_and_changed(case: Case, again: PlayedGroup) -> str:
    """What belongs to more than one environment, and is not what it was: since this play began, or
    since the first look, for what a play adds may be there already."""
    for shared in (again.shared, case.setup.shared):
        changed = shared.changed() if shared is not None else ""
        if changed:
            return changed
    return ""
