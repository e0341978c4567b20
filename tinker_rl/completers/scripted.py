"""Completers that follow a script: for tests, for playing an environment without a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar

from anyio.lowlevel import checkpoint

from tinker_rl.completers.types import (
    MessageCompleter,
    StopCondition,
    TokenCompleter,
    TokensWithLogprobs,
)
from tinker_rl.errors import CompleterError
from tinker_rl.renderers import Message
from tinker_rl.types import ModelInput

__all__ = ["ScriptedMessageCompleter", "ScriptedTokenCompleter"]

Prompt = TypeVar("Prompt")
Answer = TypeVar("Answer")
Script: TypeAlias = Sequence[Answer] | Callable[[Prompt], Answer | Awaitable[Answer]]


class _Scripted(Generic[Prompt, Answer]):
    """Answers from a list, in the order of the calls, or by a function of the prompt."""

    def __init__(self, script: Script[Answer, Prompt]) -> None:
        self.calls: list[Prompt] = []
        """Every prompt so far."""
        self._function = script if callable(script) else None
        self._answers: Iterator[Answer] = iter(() if callable(script) else script)

    async def answer(self, prompt: Prompt) -> Answer:
        self.calls.append(prompt)
        if self._function is not None:
            answer = self._function(prompt)
            if isinstance(answer, Awaitable):
                return await answer
        else:
            try:
                answer = next(self._answers)
            except StopIteration:
                raise CompleterError(
                    f"scripted completer: expected at most {len(self.calls) - 1} calls, the length "
                    f"of its script; got call {len(self.calls)}. Write a longer script, or pass a "
                    "function of the prompt."
                ) from None
        await checkpoint()
        return answer


class ScriptedTokenCompleter(TokenCompleter):
    """Continues prompts as its script says.

    Tokens from the script have logprob 0: nothing else could have come. An answer longer than
    `max_tokens` is cut there, with stop reason `length`.
    """

    def __init__(
        self,
        script: Script[Sequence[int] | TokensWithLogprobs, ModelInput],
        policy_version: int | None = None,
    ) -> None:
        """Prepare the answers.

        Args:
            script: Answers in the order of the calls, or a function of the prompt, sync or async.
            policy_version: Version that answers carry, unless they bring one.
        """
        self._script = _Scripted(script)
        self._policy_version = policy_version

    @property
    def calls(self) -> list[ModelInput]:
        """Every prompt so far."""
        return self._script.calls

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> TokensWithLogprobs:
        answer = await self._script.answer(model_input)
        if not isinstance(answer, TokensWithLogprobs):
            tokens = list(answer)
            answer = TokensWithLogprobs(tokens, [0.0] * len(tokens), "stop", self._policy_version)
        if max_tokens is None or len(answer.tokens) <= max_tokens:
            return answer
        return answer.first(max_tokens, "length")


class ScriptedMessageCompleter(MessageCompleter):
    """Answers conversations as its script says."""

    def __init__(self, script: Script[str | Message, list[Message]]) -> None:
        """Prepare the answers.

        Args:
            script: Messages, or their texts, in the order of the calls, or a function of the
                conversation, sync or async.
        """
        self._script = _Scripted(script)

    @property
    def calls(self) -> list[list[Message]]:
        """Every conversation so far."""
        return self._script.calls

    async def __call__(self, messages: list[Message]) -> Message:
        answer = await self._script.answer(list(messages))
        return Message(role="assistant", content=answer) if isinstance(answer, str) else answer
