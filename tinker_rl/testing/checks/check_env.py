"""Checking that an environment keeps the rules that every environment must keep."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import anyio.to_thread
import msgspec

from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.testing.checks.builder_source import BuilderSource, builder_source, check_no_loop
from tinker_rl.testing.checks.case import Claims, Loop, Property, Setup
from tinker_rl.testing.checks.cases import Given, play_cases
from tinker_rl.testing.checks.checker import Checker
from tinker_rl.testing.checks.options import check_options
from tinker_rl.testing.checks.playing import PlaySettings
from tinker_rl.testing.checks.probing import Probe, probe
from tinker_rl.testing.checks.properties import PROPERTIES
from tinker_rl.testing.checks.replay_line import replay_line
from tinker_rl.testing.checks.report import EnvCheckReport
from tinker_rl.testing.checks.tally import Tally
from tinker_rl.testing.checks.unlike_members import unlike_members
from tinker_rl.testing.extra import st
from tinker_rl.testing.strategies.actions import ValidActions
from tinker_rl.testing.strategies.scripts import GroupScript
from tinker_rl.testing.strategies.token_space import Action, TokenSource
from tinker_rl.testing.strategies.tools import Tools

__all__ = ["check_env", "check_env_async"]

MOST_TURNS = 100
"""Turns after which an episode that declared no end does not end."""
_EPISODES = 80
"""About how many are drawn by default, each of them played twice."""
_TO_REPLAY = (
    "max_turns",
    "reward_range",
    "context_window",
    "deterministic",
    "limits",
    "max_step_seconds",
    "renderer",
    "properties",
    "skip",
    "backend",
    "virtual_time",
)
_NOTHING_AGAIN = (
    "this replay found nothing wrong: the environment was mended, or the call that found it had "
    "other options (reward_range, max_turns, limits, ...), or it does not always go wrong"
)


def check_env(
    builder: BuilderSource,
    *,
    valid_actions: ValidActions | None = None,
    valid_episodes: Sequence[Sequence[Action]] = (),
    tools: Tools = (),
    max_turns: int | None = None,
    reward_range: tuple[float, float] | None = None,
    context_window: int | None = None,
    deterministic: bool = True,
    limits: RolloutLimits | None = None,
    max_step_seconds: float = 10.0,
    renderer: TokenSource | None = None,
    properties: Sequence[str] | None = None,
    skip: Mapping[str, str] | None = None,
    max_examples: int | None = None,
    explore: bool = False,
    replay: str | None = None,
    backend: str = "trio",
    virtual_time: bool = False,
    seconds: float = 60.0,
) -> EnvCheckReport:
    """Play an environment with actions of every kind, and check the rules that it must keep.

    Nothing is random: the same call looks at the same cases, unless `explore` is set.

    Args:
        builder: An `EnvGroupBuilder`, of which each group gets a shallow copy; or a function that
            makes one, or that makes an `Env`.
        valid_actions: What a good policy writes: texts, messages, lists of tokens, or a strategy of
            these. Without, few episodes come far.
        valid_episodes: What it writes in whole episodes, turn by turn. They are played as they
            are, and then with one action wrong.
        tools: Tools that the environment offers, as its renderer takes them, or their names; by
            default those of `MessageEnv.tools`. They are called with arguments of every kind, as
            those are that good actions call.
        max_turns: Turns within which an episode ends by itself; None: what the environment's own
            `max_turns` says, or that it ends at all.
        reward_range: Least and greatest return of an episode.
        context_window: Tokens within which every observation leaves room for an action.
        deterministic: Whether the same seed gives the same episode.
        limits: Of the run; they cut short what does not end by itself.
        max_step_seconds: Longest a call may take.
        renderer: A renderer, a tokenizer, or the size of the vocabulary; None: what the environment
            holds.
        properties: Names of the properties to check; None: all.
        skip: Names of properties to leave out, each with the reason.
        max_examples: Cases to draw, and known ones to play at most; None: 10 to 40, fewer for large
            groups.
        explore: Whether to look at other cases each time.
        replay: The string that a failed check gave, to play its case and no other.
        backend: `trio`, as in a run, or `asyncio`.
        virtual_time: Whether sleeps and deadlines of the event loop pass at once. Those of members
            that are `linked` always do.
        seconds: Real seconds after which no more cases are played; the report says so.
    Returns:
        What was checked, how often, and what was left out.
    Raises:
        EnvCheckError: if a property does not hold; it shows the smallest case that was found.
        ConfigError: if an option makes no sense.
        UnknownNameError: if there is no such property.
    """
    __tracebackhide__ = True  # pytest shows the finding, not the search for it
    options = dict(locals())
    check_no_loop()
    check_options(properties, skip, valid_actions, valid_episodes, reward_range, max_examples)
    active = _active(properties, skip or {})
    claims = Claims(
        deterministic=deterministic,
        max_turns=max_turns,
        reward_range=reward_range,
        context_window=context_window,
    )
    settings = PlaySettings(
        limits=limits or RolloutLimits(max_turns=None),
        max_turns=MOST_TURNS,
        seconds=max_step_seconds,
    )
    loop = Loop(backend=backend, virtual_time=virtual_time)
    setup, seen = _setup(builder, claims, settings, renderer, loop)
    setup = msgspec.structs.replace(setup, valid=_listed(valid_actions), seconds=seconds)
    given = Given.of(setup.space, valid_actions, valid_episodes, tools or seen.tools)
    tally = Tally(given.names, knows_valid=given.drawn is not None or setup.knows_answer)
    again = partial(replay_line, source=builder, options=_that_matter(options, setup))
    check = Checker(setup, active, skip or {}, tally, explore=explore, again=again)
    if replay is not None:
        script = GroupScript.decode(replay)
        check.play_first(script)
        check.look_last(script)
        return check.report([*seen.notes, _NOTHING_AGAIN])
    check.play_first(check.plain)
    if max_examples is None:
        max_examples = min(40, max(10, _EPISODES // setup.size))
    play_cases(check, setup, seen, given, max_examples)
    check.look_last(check.plain)
    notes = seen.notes
    if seen.begins_alike and not check.is_cut:
        notes = (*notes, *unlike_members(setup, given.whole_episodes))
    return check.report(notes)


async def check_env_async(builder: BuilderSource, **options: Any) -> EnvCheckReport:
    """`check_env`, from a running event loop: in a thread, on event loops of its own.

    Cancelled, it leaves the thread to end by itself.

    Args:
        builder: As in `check_env`, like `options`.
        options: Its other arguments.
    """
    check = partial(check_env, builder, **options)
    return await anyio.to_thread.run_sync(check, abandon_on_cancel=True)


def _active(names: Sequence[str] | None, skip: Mapping[str, str]) -> dict[str, Property]:
    return {
        name: found
        for name, found in PROPERTIES.items()
        if name not in skip and (names is None or name in names)
    }


def _setup(
    source: BuilderSource,
    claims: Claims,
    settings: PlaySettings,
    tokens: TokenSource | None,
    loop: Loop,
) -> tuple[Setup, Probe]:
    fresh, from_envs = builder_source(source)
    if getattr(fresh(), "linked", False):  # so whoever waits for another in vain is found at once
        loop = msgspec.structs.replace(loop, virtual_time=True)
    seen = probe(fresh, settings, loop.run, tokens)
    declared = claims.max_turns or seen.max_turns
    if declared is not None:
        settings = msgspec.structs.replace(settings, max_turns=declared)
    setup = Setup(
        fresh=fresh,
        claims=claims,
        settings=settings,
        loop=loop,
        space=seen.space,
        size=seen.size,
        linked=seen.linked,
        knows_answer=bool(seen.answers),
        shared=seen.shared,
        from_envs=from_envs,
    )
    return setup, seen


def _listed(valid: ValidActions | None) -> tuple[str, ...] | None:
    """The texts among valid actions; None where a strategy draws them."""
    if isinstance(valid, st.SearchStrategy):
        return None
    return tuple(each for each in valid or () if isinstance(each, str))


def _that_matter(options: Mapping[str, Any], setup: Setup) -> dict[str, Any]:
    """The options that were given, and on which the replay of a case depends."""
    default = inspect.signature(check_env).parameters
    names = [*_TO_REPLAY, *(["valid_actions"] if setup.knows_answer else [])]
    return {name: options[name] for name in names if options[name] is not default[name].default}
