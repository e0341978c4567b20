"""Episodes end, and what has ended does not go on."""

from __future__ import annotations

from typing import Any

from tinker_rl.envs import EnvFromMessageEnv
from tinker_rl.testing.checks.case import Case, Finding
from tinker_rl.testing.checks.properties.locating import of_episode
from tinker_rl.testing.checks.records import Broken, PlayedEpisode

__all__ = ["declared_turns", "ends", "nothing_after_end"]


def declared_turns(env: Any, claimed: int | None = None) -> int | None:
    """Turns within which an episode ends: as claimed, or as the environment's `max_turns` says."""
    for value in (
        claimed,
        getattr(env, "max_turns", None),
        getattr(getattr(env, "message_env", None), "max_turns", None),
    ):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def ends(case: Case) -> Finding | None:
    """An episode ends within the turns that were declared; by itself, where none were."""
    setup = case.setup
    for episode in case.group.episodes:
        declared = declared_turns(episode.env, setup.claims.max_turns)
        turns = len(episode.turns)
        goes_on = episode.end == "unfinished"
        unheard = _unheard(episode) if declared is not None and turns + goes_on > declared else 0
        if declared is not None and turns - unheard + goes_on > declared:
            return of_episode(
                episode,
                f"expected an episode that ends within {declared} turns, as max_turns says; got "
                f"{_going_on(episode)}. Count the turns, and end at the last.",
            )
        if unheard and setup.claims.max_turns is not None:
            return of_episode(
                episode,
                f"expected an episode that ends within {declared} turns, as max_turns=... says; "
                f"got {_going_on(episode)}, for EnvFromMessageEnv answered {unheard} of them "
                "itself: their messages could not be read. Set terminate_on_parse_error=True, or "
                "let the run cut it short, with limits=RolloutLimits(max_turns=...).",
            )
        if goes_on and declared is None:
            return of_episode(
                episode,
                f"expected an episode that ends by itself; got one that goes on after {turns} "
                "turns. End it; or say how long it may be, with max_turns=...; or that the run is "
                "to cut it short, with limits=RolloutLimits(max_turns=...).",
            )
    return None


def _going_on(episode: PlayedEpisode) -> str:
    turns = len(episode.turns)
    return f"one of {turns}" if episode.end == "ended" else f"one that goes on after {turns}"


def _unheard(episode: PlayedEpisode) -> int:
    """Turns that the adapter of a `MessageEnv` answered itself: the environment cannot count them.

    An adapter that declares turns of its own can.
    """
    env = episode.env
    if not isinstance(env, EnvFromMessageEnv) or hasattr(env, "max_turns"):
        return 0
    parse = env.renderer.parse_response
    return sum(not parse(list(turn.action.tokens))[1].is_clean for turn in episode.turns)


def nothing_after_end(case: Case) -> Finding | None:
    """`step` after the end raises."""
    for episode in case.group.episodes:
        after = episode.after_end
        if after is None or isinstance(after, Broken):
            continue
        return of_episode(
            episode,
            f"expected an error from a step after the end; got {type(after).__name__}"
            f"{_reward(after)}. Remember that the episode is over, and raise.",
        )
    return None


def _reward(after: Any) -> str:
    reward = getattr(after, "reward", None)
    return "" if reward is None else f" with reward {reward}"
