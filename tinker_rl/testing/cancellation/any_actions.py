"""Who acts where nobody says who: random tokens, and the actions that are called valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinker_rl.completers import StopCondition, TokenCompleter, TokensWithLogprobs
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.testing.checks.search import some_values
from tinker_rl.testing.completers.places import CallPlaces
from tinker_rl.testing.completers.random_completers import RandomCompleter
from tinker_rl.testing.extra import st
from tinker_rl.testing.strategies.actions import ValidActions
from tinker_rl.testing.strategies.token_space import (
    Action,
    TokenSpace,
    find_source,
    token_space,
)
from tinker_rl.types import ModelInput

__all__ = ["AnyActions", "NamedActions", "WrittenActions", "listed_actions"]

MOST_DRAWN = 40
"""Actions that are drawn, where a strategy says what is valid."""


class AnyActions(TokenCompleter):
    """Random tokens that end as the environment asks.

    Args:
        seed: Decides what is drawn.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.inner: TokenCompleter = RandomCompleter(seed=seed)

    def write_for(self, env: Any) -> None:
        """Draw from the vocabulary of an environment's renderer, if it has one."""
        source = find_source(env)
        if source is not None:
            self.inner = RandomCompleter(source=source, seed=self._seed)

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        return await self.inner(model_input, stop, max_tokens=max_tokens)


class WrittenActions:
    """Named actions as tokens, written once for all runs of a check.

    Args:
        actions: Texts, tokens or messages.
    """

    def __init__(self, actions: Sequence[Action]) -> None:
        self.actions = actions
        self._source: Any = None
        self._space: TokenSpace | None = None
        self._tokens: list[tuple[int, ...]] = []

    def write_for(self, env: Any) -> None:
        """Write with the renderer or tokenizer of an environment, or raise RequestError."""
        source = find_source(env)
        if source is None and any(isinstance(action, str) for action in self.actions):
            raise RequestError(
                "cancel_everywhere.valid_actions: expected lists of tokens, for "
                f"{type(env).__name__} holds no renderer or tokenizer; got texts. Give tokens, or "
                "make_actor=... in place of valid_actions."
            )
        if self._tokens and source is self._source:
            return
        self._source = source
        self._space = None if source is None else token_space(source)
        space = self._space or token_space(1)
        self._tokens = [space.encode_action(action) for action in self.actions]

    def completer(self, place: int, seed: int) -> TokenCompleter:
        """What writes one of them, and ends it as it is asked to."""
        return RandomCompleter([self._tokens[place]], self._space, seed=seed)


class NamedActions(AnyActions):
    """Named actions in their order, ended as the environment asks; each member begins elsewhere.

    Args:
        written: What is played, again from the first after the last.
        start: Place of the one with which the first member begins.
        seed: Decides between ends, where several are asked for.
    """

    def __init__(self, written: WrittenActions, start: int, seed: int) -> None:
        super().__init__(seed)
        self._written = written
        self._start = start
        self._size = 0
        self._turns = CallPlaces()
        self.played: set[int] = set()
        """Places of the actions that were played."""

    def write_for(self, env: Any) -> None:
        """Count a member of the group, and write as it reads. Raises RequestError if none can."""
        self._size += 1
        self._written.write_for(env)

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        call, size = self._turns.next(), len(self._written.actions)
        member = 0 if call.episode is None else call.episode.member
        apart = max(1, size // max(1, self._size))
        place = (self._start + member * apart + call.turn) % size
        self.played.add(place)
        write = self._written.completer(place, self._seed)
        return await write(model_input, stop, max_tokens=max_tokens)


def listed_actions(valid: ValidActions | None) -> tuple[Action, ...]:
    """The actions that are valid, or some that a strategy draws, each once.

    Raises:
        ConfigError: if it is a single text.
    """
    if isinstance(valid, str):
        raise ConfigError(
            "cancel_everywhere.valid_actions: expected a list of actions, or a strategy; got the "
            f"text {valid!r}. Write valid_actions=[{valid!r}]."
        )
    if not isinstance(valid, st.SearchStrategy):
        return tuple(valid or ())
    drawn: list[Action] = []
    for action in some_values(valid, MOST_DRAWN):
        if action not in drawn:
            drawn.append(action)
    return tuple(drawn)
