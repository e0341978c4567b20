"""Environments that talk in messages, and the adapter that lets a policy of tokens act in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from tinker_rl.completers.types import StopCondition
from tinker_rl.envs.answers import check_messages, checked_tools, named, over
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
from tinker_rl.renderers import Message, Renderer, ToolSpec
from tinker_rl.types import ModelInput

__all__ = [
    "EnvFromMessageEnv",
    "MessageEnv",
    "MessageStepResult",
    "hears_early_end",
    "users_method",
]


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

    rewrites_history: bool = False
    """Whether `next_messages` need not begin with the messages before them and the policy's, as in
    `Env.rewrites_history`."""

    tools: Sequence[ToolSpec] = ()
    """Tools that the policy may call, the same all through the episode: the prompt tells of them in
    the words of the chat format. Calls come as `tool_calls` of a message, and are answered by
    messages of role `tool`."""

    @abstractmethod
    async def initial_observation(self) -> list[Message]:
        """The conversation that the policy answers first."""

    @abstractmethod
    async def step(self, message: Message) -> MessageStepResult:
        """Answer the policy's message."""

    async def on_early_end(self, stop_reason: StopReason) -> None:
        """Hear that the episode is over, though no answer of its own had ended it.

        Called once, in place of a further `step`: the policy's message was cut off or cannot be
        read, there is no room for another, or a limit of the run was met. What the message earns
        is for `EnvFromMessageEnv` to say. An environment that others wait for, as players of a
        game do, tells them here.

        Args:
            stop_reason: Why: `max_tokens` for a message that was cut off, `parse_error` for one
                that cannot be read, `context_overflow`, `max_turns` and so on.
        """
        return


class EnvFromMessageEnv(Env):
    """Lets a policy of tokens act in a `MessageEnv`.

    An observation keeps the tokens of the one before it and of the action, and adds what came
    since, wherever the renderer can promise that and the conversation was not rewritten: then the
    episode is one training sequence. Elsewhere the conversation is rendered anew.

    Where the episode ends is the environment's business; that a message was cut off or cannot be
    read is dealt with here, and the environment is not asked. If the episode ends on that,
    `MessageEnv.on_early_end` is told. There are three ways to deal with a message that cannot be
    read, each at the price of `failed_parse_reward`:

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
        self._tools: list[ToolSpec] | None = None
        self._messages: list[Message] = []
        self._shown: list[Message] = []
        self._observation = ModelInput.empty()
        self._is_over = False

    @property
    def shown_messages(self) -> tuple[Message, ...]:
        """The conversation as the policy was shown it last; empty before it begins."""
        return tuple(self._shown)

    async def initial_observation(self) -> tuple[Observation, StopCondition]:
        messages = await call_env(self.message_env, "initial_observation")
        where = f"{type(self.message_env).__name__}.initial_observation"
        check_messages(where, messages)
        if not messages:
            raise RequestError(
                f"{where}: expected a message that the policy can answer; got none. Begin with "
                "{'role': 'user', 'content': ...}."
            )
        name = type(self.message_env).__name__
        self._tools = checked_tools(f"{name}.tools", getattr(self.message_env, "tools", ()))
        self._is_over = False
        self._messages = list(messages)
        self._shown = list(self._messages)
        self._observation = self._rendered(self._messages)
        return self._observation, self._stop_condition

    async def step(self, action: Action, *, extra: ActionExtra | None = None) -> StepResult:
        if not self._messages:
            raise RequestError(
                "EnvFromMessageEnv.step: expected a call of initial_observation first; got none. "
                "Play an environment from its beginning."
            )
        if self._is_over:
            raise over(self)
        result = await self._answer(action, extra)
        self._is_over = result.episode_done
        return result

    async def on_early_end(self, stop_reason: StopReason) -> None:
        self._is_over = True
        if hears_early_end(self.message_env):
            await call_env(self.message_env, "on_early_end", stop_reason)

    async def _answer(self, action: Action, extra: ActionExtra | None) -> StepResult:
        self.rewrites_history = bool(getattr(self.message_env, "rewrites_history", False))
        if extra is not None and extra.get("stop_reason") == "length":
            cut_off = StopReason.MAX_TOKENS
            return await self._end(self.context_overflow_reward, cut_off, {"parse_error": 0.0})
        message, termination = self.renderer.parse_response(action)
        if not termination.is_clean:
            return await self._unreadable(action, message)
        result = self._checked(await call_env(self.message_env, "step", message))
        self._take_over(action, message, result)
        if not result.episode_done and self._overflows(self._observation):
            reason = StopReason.CONTEXT_OVERFLOW
            metrics: Metrics = {"parse_error": 0.0, **result.metrics}
            return await self._end(self.context_overflow_reward, reason, metrics, result.logs)
        return StepResult(
            reward=result.reward,
            episode_done=result.episode_done,
            next_observation=self._observation,
            next_stop_condition=result.next_stop_condition or self._stop_condition,
            metrics={"parse_error": 0.0, **result.metrics},
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
                extended = self.renderer.extend_generation_prompt(
                    self._observation, action, new, tools=self._tools
                )
                if extended is not None:
                    return extended
            self.rewrites_history = True  # the format's doing, or another's message in between
        return self._rendered(shown)

    def _rendered(self, messages: list[Message]) -> Observation:
        return self.renderer.build_generation_prompt(messages, tools=self._tools)

    def _overflows(self, observation: Observation) -> bool:
        if self.max_trajectory_tokens is None:
            return False
        return observation.length + (self.max_generation_tokens or 1) > self.max_trajectory_tokens

    async def _unreadable(self, action: Action, message: Message) -> StepResult:
        metrics: Metrics = {"parse_error": 1.0}
        if self.terminate_on_parse_error:
            return await self._end(self.failed_parse_reward, StopReason.PARSE_ERROR, metrics)
        if self.parse_error_message is not None:
            told = Message(role="user", content=self.parse_error_message)
            shown = [*self._shown, message, told]
            observation = self._observe(action, shown, len(shown) - 1, is_last=False)
            if self._overflows(observation):
                reason = StopReason.CONTEXT_OVERFLOW
                return await self._end(self.failed_parse_reward, reason, metrics)
            self._shown, self._observation = shown, observation
        else:
            self.rewrites_history = True  # the policy sees what it saw, without what it wrote
        return StepResult(
            reward=self.failed_parse_reward,
            episode_done=False,
            next_observation=self._observation,
            next_stop_condition=self._stop_condition,
            metrics=metrics,
        )

    async def _end(
        self,
        reward: float,
        stop_reason: StopReason,
        metrics: Metrics,
        logs: Logs | None = None,
    ) -> StepResult:
        await self.on_early_end(stop_reason)
        return StepResult(
            reward=reward,
            episode_done=True,
            next_observation=ModelInput.empty(),
            next_stop_condition=self._stop_condition,
            metrics=metrics,
            logs=logs or {},
            stop_reason=stop_reason,
        )


def hears_early_end(env: Any) -> bool:
    """Whether its class has an `on_early_end` of its own: else there is nothing to call."""
    method = users_method(env, "on_early_end")
    ours = None, Env.on_early_end, MessageEnv.on_early_end
    return getattr(method, "__func__", method) not in ours


def users_method(env: Any, name: str) -> Any:
    """The method that answers in an environment, to be named when it does not answer well.

    That of the `MessageEnv` where the adapter passes the call on; None if there is none.
    """
    message_env = getattr(env, "message_env", None)
    passes_on = getattr(type(env), name, None) is getattr(EnvFromMessageEnv, name, None)
    return getattr(message_env if passes_on else env, name, None)
