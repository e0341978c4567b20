"""Environments that talk in messages, and the adapter that lets a policy of tokens act in them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

from tinker_rl.completers.types import StopCondition
from tinker_rl.envs.types import (
    Action,
    ActionExtra,
    Env,
    Logs,
    Metrics,
    Observation,
    StepResult,
    StopReason,
)
from tinker_rl.errors import RequestError
from tinker_rl.renderers import Message, Renderer
from tinker_rl.types import ModelInput

__all__ = ["EnvFromMessageEnv", "MessageEnv", "MessageStepResult"]


class MessageStepResult(msgspec.Struct, frozen=True):
    """What a `MessageEnv` answers to a message."""

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


class MessageEnv(ABC):
    """A conversation for one policy, held once."""

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
    read is dealt with here, and the environment is not asked.
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
    ) -> None:
        """Set up one episode.

        Args:
            renderer: Turns the conversation into tokens and actions into messages.
            message_env: The environment.
            failed_parse_reward: Reward of a message that does not end as the format asks.
            terminate_on_parse_error: Whether such a message ends the episode; if not, the policy
                tries once more from the observation that it had.
            max_trajectory_tokens: Most tokens of an observation and the next action together;
                None: no limit.
            max_generation_tokens: Room to leave for the next action within that limit.
            context_overflow_reward: Reward of a message that was cut off at its token limit, or
                that leaves no room for another.
        """
        self.renderer = renderer
        self.message_env = message_env
        self.failed_parse_reward = failed_parse_reward
        self.terminate_on_parse_error = terminate_on_parse_error
        self.max_trajectory_tokens = max_trajectory_tokens
        self.max_generation_tokens = max_generation_tokens
        self.context_overflow_reward = context_overflow_reward
        self._stop_condition = renderer.get_stop_sequences()
        self._messages: list[Message] = []
        self._observation = ModelInput.empty()

    async def initial_observation(self) -> tuple[Observation, StopCondition]:
        self._messages = list(await self.message_env.initial_observation())
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
            return self._unreadable()
        result = await self.message_env.step(message)
        observation = self._observe(action, message, result)
        if not result.episode_done and self._overflows(observation):
            reason = StopReason.CONTEXT_OVERFLOW
            return self._end(self.context_overflow_reward, reason, result.metrics, result.logs)
        self._messages, self._observation = list(result.next_messages), observation
        return StepResult(
            reward=result.reward,
            episode_done=result.episode_done,
            next_observation=observation,
            next_stop_condition=result.next_stop_condition or self._stop_condition,
            metrics=result.metrics,
            logs=result.logs,
            stop_reason=result.stop_reason,
        )

    def _observe(self, action: Action, message: Message, result: MessageStepResult) -> Observation:
        """The next observation: an extension of this one where that is possible."""
        messages = result.next_messages
        if not messages:
            return ModelInput.empty()
        known = [*self._messages, message]
        new = messages[len(known) :]
        if messages[: len(known)] == known:
            if not new and result.episode_done:
                return ModelInput.from_ints([*self._observation.to_ints(), *action])
            if new and all(later["role"] != "assistant" for later in new):
                extended = self.renderer.extend_generation_prompt(self._observation, action, new)
                if extended is not None:
                    return extended
        return self.renderer.build_generation_prompt(messages)

    def _overflows(self, observation: Observation) -> bool:
        if self.max_trajectory_tokens is None:
            return False
        return observation.length + (self.max_generation_tokens or 1) > self.max_trajectory_tokens

    def _unreadable(self) -> StepResult:
        metrics: Metrics = {"parse_error": 1.0}
        if self.terminate_on_parse_error:
            return self._end(self.failed_parse_reward, StopReason.PARSE_ERROR, metrics)
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
