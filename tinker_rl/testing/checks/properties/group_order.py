"""Rewards of a group belong to the episodes that are given, in their order and however many."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

import msgspec

from tinker_rl.envs import EnvGroupBuilder
from tinker_rl.testing.checks.case import Case, Finding, Setup
from tinker_rl.testing.checks.properties.locating import of_broken, of_builder
from tinker_rl.testing.checks.variant import Variant
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.scripts import GroupScript

__all__ = ["not_in_order", "not_of_some", "rewards_in_order", "rewards_of_some"]

_FEWEST = 3
"""Members of a group that can lose one: `MinViable` leaves two at least. Of two nobody can tell
whether their rewards follow them or their places."""
_MOST_ALIKE = 3
"""Members whose actions are tried in the place of others'."""
_OF_SOME = (
    "That was for the others, where the episode of member 0 had failed and is left out, as "
    "MinViable does. Go by the trajectories and environments that are given, and keep none on the "
    "builder; or, where none can be left out, set linked = True on it."
)
_ROUNDING = 1e-9

Actions = tuple[DrawnAction, ...]


def rewards_of_some(case: Case) -> Finding | None:
    """`compute_group_rewards` can do without an episode that failed."""
    played = case.play(case.order, Variant(omitted=0))
    broken = played.broken_call("compute_group_rewards")
    if broken is None or case.group.broken_call("compute_group_rewards") is not None:
        return None
    return of_broken(broken, advice=_OF_SOME)


def not_of_some(setup: Setup) -> str:
    """Why `rewards_of_some` is left out."""
    if setup.linked:
        return "the members are linked: none is left out by itself"
    return _compares_nothing(setup)


def rewards_in_order(case: Case) -> Finding | None:
    """Rewards follow the episodes: they do not stay in place when the members change places.

    A builder may go by places all the same: ties go to the first, a judge prefers whom it saw last.
    Then members who do the same earn different rewards, or they change with the places. So it is
    wrong only if members who do the same earn the same, one who does not earns something else, and
    it does not matter at all which one that is, but what it did: less than the others is at one
    end, more at the other. A share of a pot that goes by places stays at its end.
    """
    rewards = _rewards(case)
    if rewards is None or _is_constant(rewards):
        return None
    members = [case.script.episode(member).actions for member in range(len(rewards))]
    moved = _case(case, [members[-1], *members[:-1]])
    if not _is_same(_rewards(moved), rewards) or not _is_order_lost(case, members):
        return None
    found = of_builder(
        case.group,
        "expected the reward of an episode in its place; got "
        f"[{', '.join(f'{reward:.4g}' for reward in rewards)}], and the same when each member did "
        "what the one before it had done. (Members who did the same earned the same; of one who "
        "did not the reward was first or last, whichever it was.) Give them in the order of the "
        "trajectories that are given: do not sort these.",
        "compute_group_rewards",
    )
    orders = "as the case has it", "each as the one before it, the first as the last"
    best = rewards.index(max(rewards))
    return msgspec.structs.replace(found, member=best, other=moved.group, orders=orders)


def not_in_order(setup: Setup) -> str:
    """Why `rewards_in_order` is left out."""
    if setup.linked:
        return "the members are linked: who is who may matter"
    if not setup.claims.deterministic:
        return "deterministic=False was given"
    return _compares_nothing(setup)


def _compares_nothing(setup: Setup) -> str:
    method = getattr(type(setup.fresh()), "compute_group_rewards", None)
    if method is EnvGroupBuilder.compute_group_rewards:
        return "the builder gives no rewards to the group"
    return "" if setup.size >= _FEWEST else "it takes a group of three members or more"


def _is_order_lost(case: Case, members: Sequence[Actions]) -> bool:
    """Whether rewards are sorted: the odd one out is at an end, and at the other if it is turned
    round who is odd."""
    size = len(members)
    kinds = list(dict.fromkeys(members))[:_MOST_ALIKE]
    for actions in kinds:
        if not _is_constant(_rewards(_case(case, [actions] * size)) or [0.0, 1.0]):
            return False
    for one, other in itertools.combinations(kinds, 2):
        ends = {_place_of_odd(case, one, other, size), _place_of_odd(case, other, one, size)}
        if ends != {None}:
            return ends == {0, size - 1}
    return False


def _place_of_odd(case: Case, odd: Actions, many: Actions, size: int) -> int | None:
    """Where the reward of the odd one out is, whichever member it is; -1: that depends, or others
    differ too; None: no reward differs."""
    places = ([odd if n == place else many for n in range(size)] for place in range(size))
    first = _rewards(_case(case, next(places)))
    if first is None:
        return -1
    if _is_constant(first):
        return None
    usual = statistics.median_low(first)
    differing = [
        n
        for n, reward in enumerate(first)
        if not math.isclose(reward, usual, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    ]
    is_moved = any(not _is_same(_rewards(_case(case, each)), first) for each in places)
    return -1 if is_moved or len(differing) > 1 else differing[0]


def _case(case: Case, members: Sequence[Actions]) -> Case:
    return Case(case.setup, GroupScript(case.script.seed, tuple(members)))


def _rewards(case: Case) -> list[float] | None:
    rewarded = case.group.rewarded
    return None if rewarded is None else [float(reward) for reward in rewarded.final_rewards_G]


def _is_constant(rewards: Sequence[float]) -> bool:
    return max(rewards) - min(rewards) <= _ROUNDING


def _is_same(rewards: Sequence[float] | None, others: Sequence[float]) -> bool:
    if rewards is None or len(rewards) != len(others):
        return False
    pairs = zip(rewards, others, strict=True)
    return all(math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=_ROUNDING) for a, b in pairs)
