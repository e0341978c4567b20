"""Who acts where nobody says who: random tokens, and the actions that are called valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinker_rl.completers import StopCondition, TokenCompleter, TokensWithLogprobs
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.testing.checks.search import some_values
from tinker_rl.testing.completers.random_completers import RandomCompleter
from tinker_rl.testing.completers.wrappers import CallPlaces
from tinker_rl.testing.extra import st
from tinker_rl.testing.strategies.actions import ValidActions
from tinker_rl.testing.strategies.token_space import Action, find_source, token_space
from tinker_rl.types import ModelInput

__all__ = ["AnyActions", "NamedActions", "listed_actions"]

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


class NamedActions(AnyActions):
    """Named actions in their order, ended as the environment asks; each member begins elsewhere.

    Args:
        actions: What is written, again from the first after the last.
        start: Place of the one with which the first member begins.
        seed: Decides between ends, where several are asked for.
    """

    def __init__(self, actions: Sequence[Action], start: int, seed: int) -> None:
        super().__init__(seed)
        self._actions = actions
        self._start = start
        self._size = 0
        self._turns = CallPlaces()
        self._writers: list[RandomCompleter] = []
        self.played: set[int] = set()
        """Places of the actions that were played."""

    def write_for(self, env: Any) -> None:
        """Write with the renderer or tokenizer of an environment. Raises RequestError if it cannot.

        Args:
            env: One member of the group; each is told of.
        """
        self._size += 1
        source = find_source(env)
        if source is None and any(isinstance(action, str) for action in self._actions):
            raise RequestError(
                "cancel_everywhere.valid_actions: expected lists of tokens, for "
                f"{type(env).__name__} holds no renderer or tokenizer; got texts. Give tokens, or "
                "make_actor=... in place of valid_actions."
            )
        space = token_space(1 if source is None else source)
        written = [space.encode_action(action) for action in self._actions]
        self._writers = [RandomCompleter([one], source, seed=self._seed) for one in written]

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        call = self._turns.next()
        member = 0 if call.episode is None else call.episode.member
        apart = max(1, len(self._actions) // max(1, self._size))
        place = (self._start + member * apart + call.turn) % len(self._actions)
        self.played.add(place)
        return await self._writers[place](model_input, stop, max_tokens=max_tokens)


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
