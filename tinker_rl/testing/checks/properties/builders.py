"""What builders promise: environments of their own for every episode, rewards for all of them."""

from __future__ import annotations

import contextlib
from typing import Any

from tinker_rl.clients import RestClient, SamplingClient, ServiceClient, TrainingClient
from tinker_rl.envs import Env, EnvGroupBuilder
from tinker_rl.envs.answers import answer_of
from tinker_rl.envs.randomness import seeded_rng
from tinker_rl.policies.episodes import playing
from tinker_rl.rl.env_answers import checked_envs
from tinker_rl.testing.checks.case import Case, Finding, Setup
from tinker_rl.testing.checks.properties.differences import first_difference
from tinker_rl.testing.checks.properties.locating import (
    function_in,
    of_broken,
    of_builder,
    of_raised,
)
from tinker_rl.testing.checks.properties.pickling import pickled_copy
from tinker_rl.testing.checks.records import PlayedGroup
from tinker_rl.testing.checks.transcript import shortened
from tinker_rl.testing.completers.injected import is_injected

__all__ = [
    "cleanup",
    "cleanup_early",
    "fresh_envs",
    "group_rewards",
    "makes_envs",
    "pickles",
    "unpicklable",
]

_CLIENTS = (ServiceClient, TrainingClient, SamplingClient, RestClient)
_DEPTH = 4
_LONGEST = 80
"""Characters that are shown of an observation,"""
_TOKENS_BEFORE = 8
"""from so many tokens before the first that is not the same."""


def makes_envs(case: Case) -> Finding | None:
    """`make_envs` gives at least one Env."""
    broken = case.group.broken_call("make_envs")
    return None if broken is None or broken.how in ("late", "open") else of_broken(broken)


def fresh_envs(case: Case) -> Finding | None:
    """`make_envs` gives new environments at each call, always as many, none of them twice."""
    setup = case.setup

    async def made(builder: EnvGroupBuilder) -> list[Env]:
        key = case.script.episode(0).key()
        with seeded_rng(key.env_rng()), playing(key, 0):
            return checked_envs(await answer_of(builder, "make_envs"))

    async def calls() -> list[list[Env]]:
        builder = setup.fresh()
        try:
            return [await made(builder), await made(builder)]
        finally:
            with contextlib.suppress(Exception):  # that is `cleanup`'s to find
                await answer_of(builder, "cleanup")

    try:
        first, second = setup.run(calls)
    except Exception as error:
        if is_injected(error):
            return None
        return of_raised(case.group, error, "make_envs", "expected a second call to answer")
    if len({id(env) for env in first}) != len(first):
        got = "the same environment for more than one episode"
    elif {id(env) for env in first} & {id(env) for env in second}:
        got = "an environment that was given before"
    elif len(first) != len(second):
        got = f"{len(first)} environments, then {len(second)}"
    else:
        return None
    return of_builder(
        case.group,
        f"expected new environments at each call, as many as before; got {got}. Make each one "
        "within the call.",
        "make_envs",
    )


def pickles(case: Case) -> Finding | None:
    """A builder that holds no client pickles, and the copy makes equal environments."""
    builder = case.setup.fresh()
    try:
        copy = pickled_copy(builder)
    except Exception as error:
        rule = (
            "expected a builder that pickles, so that it can travel to other processes, with "
            "settings in it, functions by name (functools.partial, no lambda) and nothing live"
        )
        found = of_raised(case.group, error, "make_envs", rule)
        return Finding(found.text, found.location or function_in(builder))
    setup = case.setup
    other = case.play(case.order, builder=copy)
    same = other.outcome == case.group.outcome
    if not setup.claims.deterministic:
        same = [type(e.env) for e in other.episodes] == [type(e.env) for e in case.group.episodes]
    if same:
        return None
    return of_builder(
        case.group,
        "expected a pickled builder to make the same environments; got "
        f"{_difference(case, other)}. Keep all that they depend on in its attributes.",
        "make_envs",
    )


def _difference(case: Case, copied: PlayedGroup) -> str:
    """What is not the same in the environments of a pickled builder."""
    if not case.setup.claims.deterministic and len(copied.episodes) == len(case.group.episodes):
        kinds = [[type(e.env).__name__ for e in g.episodes] for g in (case.group, copied)]
        return f"{kinds[1]} instead of {kinds[0]}"
    found = first_difference(case.group, copied)
    if found.observations is None:
        return f"{found.what}, before and after"
    pairs = enumerate(zip(*found.observations, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(map(len, found.observations)))
    before, after = (
        shortened(case.setup.space.decode(tokens[max(0, same - _TOKENS_BEFORE) :]), _LONGEST)
        for tokens in found.observations
    )
    return f"{found.what}: {after} instead of {before}"


def unpicklable(setup: Setup) -> str:
    """Why `pickles` is left out."""
    if setup.from_envs:
        return "a function that makes environments was given, and no builder"
    return "the builder holds a client" if _holds_client(setup.fresh(), _DEPTH, set()) else ""


def _holds_client(value: Any, depth: int, seen: set[int]) -> bool:
    if isinstance(value, _CLIENTS):
        return True
    if not depth or id(value) in seen or isinstance(value, str | bytes | int | float):
        return False
    seen.add(id(value))
    inner: list[Any] = list(getattr(value, "__dict__", {}).values())
    if isinstance(value, dict):
        inner += list(value.values())
    elif isinstance(value, list | tuple | set):
        inner += list(value)
    return any(_holds_client(item, depth - 1, seen) for item in inner)


def group_rewards(case: Case) -> Finding | None:
    """`compute_group_rewards` gives a finite reward and metrics for each episode, in order."""
    broken = case.group.broken_call("compute_group_rewards", "logging_tags")
    return None if broken is None or broken.how in ("late", "open") else of_broken(broken)


def cleanup(case: Case) -> Finding | None:
    """`cleanup` does not raise at the end of a group."""
    broken = case.group.broken_call("cleanup")
    return None if broken is None or broken.how in ("late", "open") else of_broken(broken)


def cleanup_early(case: Case) -> Finding | None:
    """`cleanup` does not raise where `make_envs` failed, or nothing was played."""
    setup = case.setup

    async def clean_up(makes_envs: bool) -> None:
        builder = setup.fresh()
        key = case.script.episode(0).key()
        with seeded_rng(key.env_rng()), playing(key, 0):
            if makes_envs:
                await answer_of(builder, "make_envs")
            await answer_of(builder, "cleanup")

    for makes_envs, when in (
        (False, "expected a clean-up where make_envs has failed"),
        (True, "expected a clean-up where no episode was played"),
    ):
        try:
            setup.run(clean_up, makes_envs)
        except Exception as error:
            return of_raised(case.group, error, "cleanup", when)
    return None
