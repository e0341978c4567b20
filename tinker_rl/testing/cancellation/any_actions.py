"""Who acts where nobody says who."""

from __future__ import annotations

from typing import Any

from tinker_rl.completers import StopCondition, TokenCompleter, TokensWithLogprobs
from tinker_rl.testing.completers.random_completers import RandomCompleter
from tinker_rl.testing.strategies.token_space import find_source
from tinker_rl.types import ModelInput

__all__ = ["AnyActions"]


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
