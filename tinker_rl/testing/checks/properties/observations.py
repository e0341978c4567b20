"""What the policy is shown: tokens that its model knows, and what ends its action."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tinker_rl.completers import StopCondition
from tinker_rl.envs import Observation
from tinker_rl.testing.checks.case import Case, Finding, Setup
from tinker_rl.testing.checks.properties.calls import broken_steps
from tinker_rl.testing.checks.properties.locating import of_broken, of_episode
from tinker_rl.testing.checks.records import PlayedEpisode

__all__ = ["context", "extends", "no_context", "observations", "stop_conditions", "vocabulary"]


def observations(case: Case) -> Finding | None:
    """An observation to act on is a ModelInput with at least one token."""
    for episode in case.group.episodes:
        broken = episode.broken
        if broken and broken.where == "initial_observation" and broken.how == "answered":
            return of_broken(broken, episode.member)
    for episode, broken in broken_steps(case, "observations"):
        return of_broken(broken, episode.member)
    return None


def vocabulary(case: Case) -> Finding | None:
    """Tokens are ids of the vocabulary."""
    for episode, method, observation, _ in _shown(case):
        wrong = _outside(observation.to_ints(), case.setup.space.vocab_size)
        if wrong:
            return of_episode(
                episode,
                f"expected token ids {_range(case.setup)} in the observation; got {wrong[0]!r}. "
                "Make tokens with the tokenizer of the model.",
                method,
            )
    return None


def context(case: Case) -> Finding | None:
    """An observation leaves room for an action in the context window."""
    window = case.setup.claims.context_window
    for episode, method, observation, _ in _shown(case):
        if window is not None and observation.length >= window:
            return of_episode(
                episode,
                f"expected an observation that leaves room within {window} tokens (context_window);"
                f" got one of {observation.length}. Shorten it, or end the episode before.",
                method,
            )
    return None


def no_context(setup: Setup) -> str:
    """Why `context` is left out."""
    return "" if setup.claims.context_window is not None else "no context_window was given"


def stop_conditions(case: Case) -> Finding | None:
    """What ends an action is a list of strings, or of ids of the vocabulary."""
    for episode, method, _, stop in _shown(case):
        wrong = _wrong_stop(stop, case.setup)
        if wrong:
            return of_episode(episode, wrong, method)
    return None


def extends(case: Case) -> Finding | None:
    """An observation begins with the last one and its action, or the environment says why not."""
    for episode in case.group.episodes:
        later = [turn.observation for turn in episode.turns[1:]]
        if episode.end != "ended":
            later.append(episode.observation)
        for number, (turn, following) in enumerate(zip(episode.turns, later, strict=False), 1):
            known = [*turn.observation.to_ints(), *turn.action.tokens]
            tokens = following.to_ints()
            if turn.rewrites or tokens[: len(known)] == known:
                continue
            same = next(
                (i for i, (a, b) in enumerate(zip(known, tokens, strict=False)) if a != b),
                len(tokens),
            )
            return of_episode(
                episode,
                f"expected an observation that begins with the {len(known)} tokens before it, the "
                f"action of turn {number} included; got one that differs from token {same} on. Add "
                "to what was there, or set `rewrites_history = True` on the class.",
            )
    return None


def _shown(case: Case) -> Iterator[tuple[PlayedEpisode, str, Observation, StopCondition]]:
    """Everything that a policy acted on, with the method that gave it."""
    for episode in case.group.episodes:
        for turn, (observation, stop) in enumerate(episode.observations):
            yield episode, "step" if turn else "initial_observation", observation, stop


def _outside(tokens: Sequence[Any], size: int | None) -> list[Any]:
    """The first that is no id of the vocabulary, if there is one."""
    for token in tokens:
        is_id = hasattr(token, "__index__") and not isinstance(token, bool)
        if not is_id or token < 0 or (size is not None and token >= size):
            return [token]
    return []


def _range(setup: Setup) -> str:
    size = setup.space.vocab_size
    return "from 0" if size is None else f"from 0 to {size - 1}"


def _wrong_stop(stop: Any, setup: Setup) -> str:
    advice = "Give the renderer's get_stop_sequences()."
    if not isinstance(stop, list | tuple):
        return f"expected a list of stop strings or token ids; got {stop!r}. {advice}"
    ends: Sequence[Any] = stop
    if not ends:
        return (
            "expected something that ends an action; got an empty stop condition, under which "
            "every action goes on to its token limit. Name an end, or "
            "skip={'stop_conditions': why}."
        )
    strings = [end for end in ends if isinstance(end, str)]
    if strings and len(strings) != len(ends):
        return f"expected strings or token ids, not both; got {list(ends)}. {advice}"
    if "" in strings:
        return f"expected stop strings with a character at least; got {strings}. {advice}"
    wrong = [] if strings else _outside(ends, setup.space.vocab_size)
    if not wrong:
        return ""
    return f"expected stop tokens {_range(setup)}; got {wrong[0]!r}. {advice}"
