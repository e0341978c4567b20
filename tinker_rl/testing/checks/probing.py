"""A first look at what is to be checked: its size, its tokens, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from tinker_rl.envs import Env, EnvGroupBuilder
from tinker_rl.envs.answers import checked_tools
from tinker_rl.errors import RequestError
from tinker_rl.renderers import ToolSpec
from tinker_rl.testing.checks.playing import PlaySettings, play_group
from tinker_rl.testing.checks.properties.answers import spellings
from tinker_rl.testing.checks.properties.endings import declared_turns
from tinker_rl.testing.checks.records import PlayedEpisode
from tinker_rl.testing.checks.shared_state import SharedState
from tinker_rl.testing.strategies.scripts import GroupScript
from tinker_rl.testing.strategies.token_space import (
    TokenSource,
    TokenSpace,
    find_source,
    token_space,
)

__all__ = ["Probe", "probe"]

_OTHER_BEGINNINGS = (
    "members of a group begin with different observations, and their rewards are compared: "
    "unless that is meant, draw the task once for the group, in its builder or in make_envs"
)


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen."""

    size: int
    """Members of the group; 1 where none could be made."""
    linked: bool
    space: TokenSpace
    shared: SharedState | None
    """What the environments share, as it is now."""
    max_turns: int | None
    """Turns that the environment itself declares."""
    answers: tuple[str, ...] = ()
    """The right answer that it knows, plain and boxed; empty if it is no `ProblemEnv`."""
    tools: tuple[ToolSpec, ...] = ()
    """Those that it has told of in the prompt."""
    begins_alike: bool = True
    """Whether all members have the same first observation."""
    notes: tuple[str, ...] = ()


def probe(
    fresh: Callable[[], EnvGroupBuilder],
    settings: PlaySettings,
    run: Callable[..., Any],
    source: TokenSource | None,
) -> Probe:
    """Make one group, look at its first observations, and clean it up.

    Args:
        fresh: Makes the builder.
        settings: How the group is played.
        run: Runs an async function on an event loop of its own.
        source: A renderer, a tokenizer, or the size of the vocabulary, if it was given.
    """
    builder = fresh()
    script = GroupScript(0, ((),))
    look = msgspec.structs.replace(settings, max_turns=0)
    order = "free" if getattr(builder, "linked", False) else "serial"
    play = partial(play_group, builder, script, look, order, watch=True)
    group = run(play)
    first = group.episodes[0] if group.episodes else None
    env = first.env if first else None
    source = source if source is not None else find_source(env)
    begun = [e.observation.to_ints() for e in group.episodes if e.broken is None]
    begins_alike = all(tokens == begun[0] for tokens in begun)
    notes = [] if begins_alike or order == "free" else [_OTHER_BEGINNINGS]
    if source is not None:
        space = token_space(source, _stops(group.episodes, source) or None)
    else:
        space = _space_of_numbers(group.episodes)
        notes.append("no tokenizer was found: tokens are numbers here. Pass renderer=...")
    return Probe(
        size=max(1, len(group.episodes)),
        linked=order == "free",
        space=space,
        shared=group.shared,
        max_turns=declared_turns(env),
        answers=spellings(env)[:2],
        tools=_tools(env),
        begins_alike=begins_alike,
        notes=tuple(notes),
    )


def _tools(env: Env | None) -> tuple[ToolSpec, ...]:
    try:
        tools = getattr(getattr(env, "message_env", None), "tools", ())
        return tuple(checked_tools("tools", tools) or ())
    except RequestError:  # so says the environment itself, when it is played
        return ()


def _space_of_numbers(episodes: Sequence[PlayedEpisode]) -> TokenSpace:
    """Token ids up to the greatest that an environment without tokenizer shows."""
    shown = [token for episode in episodes for token in episode.observation.to_ints()]
    ends = _stops(episodes, 1)
    known = [token for token in (*shown, *ends) if hasattr(token, "__index__") and token >= 0]
    return TokenSpace(None, [[end] for end in ends], None, min(max(known, default=9) + 1, 2**20))


def _stops(episodes: Sequence[PlayedEpisode], source: TokenSource) -> list[Any]:
    """What ends the first actions, as far as it makes sense; strings only where there is text."""
    given: list[Any] = [stop for episode in episodes for stop in episode.stop or ()]
    has_text = not isinstance(source, int)
    known = [
        stop
        for stop in given
        if (isinstance(stop, int) and stop >= 0) or (isinstance(stop, str) and stop and has_text)
    ]
    return list(dict.fromkeys(known))
