"""Environments that talk in messages, and the adapter that lets a policy of tokens act in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from tinker_rl.completers.types import StopCondition
from tinker_rl.envs.answers import check_messages, named
from tinker_rl.envs.blocking import RunsIn, call_env
from tinker_rl.envs.types import (
    Action,
    ActionExtra,
    Env,
    Logs,
    Metrics,
    Observation,
    StepResult,
    StopReason,
    make_plain,
)
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.renderers import Message, Renderer
from tinker_rl.types import ModelInput

__all__ = ["EnvFromMessageEnv", "MessageEnv", "MessageStepResult", "users_method"]


class MessageStepResult(msgspec.Struct, frozen=True):
    """What a `MessageEnv` answers to a message.

    Numbers of any kind are taken, and kept as Python's own. It is checked when it is made, so that
    an error names the line of the environment that made it.
    """

    reward: float
    """Earned by this message. Finite."""
    episode_done: bool
    """Whether the episode is over; `stop_reason` says why, if not by itself."""
    next_messages: list[Message]
    """The whole conversation so far, the policy's message and the answer to it included."""
    metrics: Metrics = {}
    logs: Logs = {}
    next_stop_condition: StopCondition | None = None
    """What ends the next message, where it is not the renderer's stop sequence."""
    stop_reason: StopReason | None = None
    """Why the episode ended; None while it goes on, or where it ended by itself."""

    def __post_init__(self) -> None:
        make_plain(self)
        check_messages("MessageStepResult.next_messages", self.next_messages)


class MessageEnv(ABC):
    """A conversation for one policy, held once."""

    runs_in: RunsIn = "loop"
    """Where its methods run, as in `Env.runs_in`; the renderer stays in the event loop."""

    @abstractmethod
    async def initial_observation(self) -> list[Message]:
        """The conversation that the policy answers first."""

    @abstractmethod
    async def step(self, message: Message) -> MessageStepResult:
        """Answer the policy's message."""


class EnvFromMessageEnv(Env):
    """Lets a policy of tokens act in a `MessageEnv`.

    An observation keeps the tokens of the one before it and of the action, and adds what came
    since, wherever the renderer can promise that and the conversation was not rewritten: then the
    episode is one training sequence. Elsewhere the conversation is rendered anew.

    Where the episode ends is the environment's business; that a message was cut off or cannot be
    read is dealt with here, and the environment is not asked. There are three ways to deal with a
    message that cannot be read, each at the price of `failed_parse_reward`:

    - the episode ends (the default);
    - `terminate_on_parse_error=False`: the policy tries again from the observation that it had;
    - and `parse_error_message="..."`: it is told so, in a message of the user's, and goes on. What
      it wrote stays in its history, though not in that of the environment.
    """

    def __init__(
        self,
        renderer: Renderer,
        message_env: MessageEnv,
        failed_parse_reward: float = -1.0,
        terminate_on_parse_error: bool = True,
        max_trajectory_tokens: int | None = None,
        max_generation_tokens: int | None = None,
        context_overflow_reward: float = -0.1,
        parse_error_message: str | None = None,
    ) -> None:
        """Set up one episode.

        Args:
            renderer: Turns the conversation into tokens and actions into messages.
            message_env: The environment.
            failed_parse_reward: Reward of a message that does not end as the format asks; 0 for no
                penalty.
            terminate_on_parse_error: Whether such a message ends the episode.
            max_trajectory_tokens: Most tokens of an observation and the next action together;
                None: no limit.
            max_generation_tokens: Room to leave for the next action within that limit.
            context_overflow_reward: Reward of a message that was cut off at its token limit, or
                that leaves no room for another.
            parse_error_message: What to tell the policy of such a message; None: it tries again
                from the observation that it had.
        Raises:
            ConfigError: if the episode both ends on such a message and goes on.
        """
        if parse_error_message is not None and terminate_on_parse_error:
            raise ConfigError(
                "EnvFromMessageEnv.parse_error_message: expected None where the episode ends on a "
                f"message that cannot be read; got {parse_error_message!r}. Set "
                "terminate_on_parse_error=False to tell the policy and go on."
            )
        self.renderer = renderer
        self.message_env = message_env
        self.failed_parse_reward = failed_parse_reward
        self.terminate_on_parse_error = terminate_on_parse_error
        self.max_trajectory_tokens = max_trajectory_tokens
        self.max_generation_tokens = max_generation_tokens
        self.context_overflow_reward = context_overflow_reward
        self.parse_error_message = parse_error_message
        self._stop_condition = renderer.get_stop_sequences()
        self._messages: list[Message] = []
        self._shown: list[Message] = []
        self._observation = ModelInput.empty()

    async def initial_observation(self) -> tuple[Observation, StopCondition]:
        messages = await call_env(self.message_env, "initial_observation")
        where = f"{type(self.message_env).__name__}.initial_observation"
        check_messages(where, messages)
        if not messages:
            raise RequestError(
                f"{where}: expected a message that the policy can answer; got none. Begin with "
                "{'role': 'user', 'content': ...}."
            )
        self._messages = list(messages)
        self._shown = list(self._messages)
        self._observation = self.renderer.build_generation_prompt(self._messages)
        return self._observation, self._stop_condition

    async def step(self, action: Action, *, extra: ActionExtra | None = None) -> StepResult:
        if not self._messages:
            raise RequestError(
                "EnvFromMessageEnv.step: expected a call of initial_observation first; got none. "
                "Play an environment from its beginning."
            )
        if extra is not None and extra.get("stop_reason") == "length":
            return self._end(self.context_overflow_reward, StopReason.MAX_TOKENS)
        message, termination = self.renderer.parse_response(action)
        if not termination.is_clean:
            return self._unreadable(action, message)
        result = self._checked(await call_env(self.message_env, "step", message))
        self._take_over(action, message, result)
        if not result.episode_done and self._overflows(self._observation):
            reason = StopReason.CONTEXT_OVERFLOW
            return self._end(self.context_overflow_reward, reason, result.metrics, result.logs)
        return StepResult(
            reward=result.reward,
            episode_done=result.episode_done,
            next_observation=self._observation,
            next_stop_condition=result.next_stop_condition or self._stop_condition,
            metrics=result.metrics,
            logs=result.logs,
            stop_reason=result.stop_reason,
        )

    def _checked(self, result: Any) -> MessageStepResult:
        if isinstance(result, MessageStepResult):
            return result
        raise RequestError(
            f"{type(self.message_env).__name__}.step: expected a MessageStepResult; got "
            f"{named(result)}. Return MessageStepResult(reward, episode_done, next_messages)."
        )

    def _take_over(self, action: Action, message: Message, result: MessageStepResult) -> None:
        """Go on from the conversation that the environment gives.

        Its own never has what it was not asked about; where it only grew, what the policy was
        shown of that stays.
        """
        messages = list(result.next_messages)
        known = [*self._messages, message]
        has_grown = messages[: len(known)] == known
        shown = [*self._shown, message, *messages[len(known) :]] if has_grown else messages
        start = len(self._shown) + 1 if has_grown else None
        self._observation = self._observe(action, shown, start, is_last=result.episode_done)
        self._messages, self._shown = messages, shown

    def _observe(
        self, action: Action, shown: list[Message], start: int | None, *, is_last: bool
    ) -> Observation:
        """The next observation: an extension of this one where that is possible.

        Args:
            action: What the policy wrote.
            shown: The conversation that it sees next.
            start: Where in it begins what came after the action; None if it was rewritten.
            is_last: Whether nobody acts on it.
        """
        if not shown:
            return ModelInput.empty()
        if start is not None:
            new = shown[start:]
            if not new and is_last:
                return ModelInput.from_ints([*self._observation.to_ints(), *action])
            if new and all(later["role"] != "assistant" for later in new):
                extended = self.renderer.extend_generation_prompt(self._observation, action, new)
                if extended is not None:
                    return extended
        return self.renderer.build_generation_prompt(shown)

    def _overflows(self, observation: Observation) -> bool:
        if self.max_trajectory_tokens is None:
            return False
        return observation.length + (self.max_generation_tokens or 1) > self.max_trajectory_tokens

    def _unreadable(self, action: Action, message: Message) -> StepResult:
        metrics: Metrics = {"parse_error": 1.0}
        if self.terminate_on_parse_error:
            return self._end(self.failed_parse_reward, StopReason.PARSE_ERROR, metrics)
        if self.parse_error_message is not None:
            told = Message(role="user", content=self.parse_error_message)
            shown = [*self._shown, message, told]
            observation = self._observe(action, shown, len(shown) - 1, is_last=False)
            if self._overflows(observation):
                return self._end(self.failed_parse_reward, StopReason.CONTEXT_OVERFLOW, metrics)
            self._shown, self._observation = shown, observation
        return StepResult(
            reward=self.failed_parse_reward,
            episode_done=False,
            next_observation=self._observation,
            next_stop_condition=self._stop_condition,
            metrics=metrics,
        )

    def _end(
        self,
        reward: float,
        stop_reason: StopReason,
        metrics: Metrics | None = None,
        logs: Logs | None = None,
    ) -> StepResult:
        return StepResult(
            reward=reward,
            episode_done=True,
            next_observation=ModelInput.empty(),
            next_stop_condition=self._stop_condition,
            metrics=metrics or {},
            logs=logs or {},
            stop_reason=stop_reason,
        )


def users_method(env: Any, name: str) -> Any:
    """The method that answers in an environment, to be named when it does not answer well.

    That of the `MessageEnv` where the adapter passes the call on; None if there is none.
    """
    message_env = getattr(env, "message_env", None)
    passes_on = getattr(type(env), name, None) is getattr(EnvFromMessageEnv, name, None)
    return getattr(message_env if passes_on else env, name, None)
