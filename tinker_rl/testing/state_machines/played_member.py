"""One episode of a state machine: what was written and shown, and whether that is as it must be."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import (
    ActionExtra,
    Env,
    EnvFromMessageEnv,
    MessageStepResult,
    Trajectory,
    Transition,
)
from tinker_rl.envs.answers import check_messages
from tinker_rl.errors import RequestError
from tinker_rl.renderers import Message, TrainOnWhat, format_content_as_string
from tinker_rl.rl.env_answers import checked_first_observation, checked_step
from tinker_rl.testing.state_machines.living_group import Member
from tinker_rl.testing.strategies.token_space import TokenSpace, find_source, token_space

__all__ = ["PlayedMember"]


class PlayedMember:
    """An episode under way, seen from the machine that plays it.

    Args:
        member: The environment and its task.
        place: Its number in the group.
        max_turns: Actions within which it must end; None: it may go on.
    """

    def __init__(self, member: Member, place: int, max_turns: int | None) -> None:
        self.name = type(getattr(member.env, "message_env", member.env)).__name__
        self.is_of_tokens = isinstance(member.env, Env)
        self.results: list[Any] = []
        """What `step` gave, in order."""
        self.transcript: list[str] = [f"# member {place}, {self.name}:"]
        self.shown = ""
        """The text that came last: of a message, where there are messages."""
        self.was_tried_after_end = False
        self._member = member
        self._max_turns = max_turns
        self._num_seen = 0
        self._observation: Any = None
        self._messages: tuple[Message, ...] = ()
        self._stop: Any = None
        self._last_call: tuple[Any, ...] = ()
        self._transitions: list[Transition] = []
        source = find_source(member.env)
        self._space = token_space(source) if source is not None else TokenSpace(None, [], None)
        self._renderer = getattr(member.env, "renderer", None)

    @property
    def is_over(self) -> bool:
        """Whether the episode has ended."""
        return bool(self.results) and self.results[-1].episode_done

    @property
    def can_act(self) -> bool:
        """Whether it is this member's turn."""
        return not (self.is_over or self._member.is_waiting)

    @property
    def observation(self) -> Any:
        """What it sees: a `ModelInput`, or the conversation of a `MessageEnv`."""
        return self._observation

    def last_call(self) -> tuple[Any, ...]:
        """The arguments of the last step."""
        return self._last_call

    def write(self, action: Any, stop_reason: str) -> tuple[Any, dict[str, Any]]:
        """An action as the environment takes it, and what else it is told."""
        if not self.is_of_tokens:
            written = Message(role="assistant", content=action) if _is_text(action) else action
            self._last_call = (written,)
            self.transcript.append(f"  writes  {format_content_as_string(written['content'])!r}")
            return written, {}
        tokens = self._tokens(action)
        self._last_call = (tokens,)
        self.transcript.append(f"  writes  {self._space.decode(tokens)}")
        takes_extra = "extra" in inspect.signature(self._member.env.step).parameters
        return tokens, {"extra": ActionExtra(stop_reason=stop_reason)} if takes_extra else {}  # pyright: ignore[reportArgumentType]

    def take_over(self) -> None:
        """Look at the answers that are new. Raises AssertionError for one that breaks a rule."""
        while self._num_seen < len(self._member.answers):
            answer = self._member.answers[self._num_seen]
            self._num_seen += 1
            if self._num_seen == 1:
                self._begin(answer)
            elif not self.was_tried_after_end:
                self._go_on(answer)

    def trajectory(self) -> Trajectory:
        """The episode, as `compute_group_rewards` gets it."""
        reason = self.results[-1].stop_reason if self.results else None
        return Trajectory(self._transitions, self._observation, reason)

    def _begin(self, answer: Any) -> None:
        if self.is_of_tokens:
            self._observation, self._stop = checked_first_observation(answer)
            self._show(self._observation.to_ints())
        else:
            check_messages(f"{self.name}.initial_observation", answer)
            self._observation = list(answer)
            self._show_messages(self._observation)

    def _go_on(self, result: Any) -> None:
        self._check_result(result)
        before, action = self._observation, self._last_call[0]
        self.results.append(result)
        if self.is_of_tokens:
            observed = result.next_observation
            self._stop = result.next_stop_condition
            self._transitions.append(
                Transition(
                    ob=before,
                    ac=TokensWithLogprobs(list(action), [0.0] * len(action)),
                    reward=result.reward,
                    episode_done=result.episode_done,
                )
            )
            known = [*before.to_ints(), *action]
            new = observed.to_ints()
        else:
            observed = new = list(result.next_messages)
            known = [*before, action]
        self._observation = observed
        reason = f" ({result.stop_reason})" if result.episode_done and result.stop_reason else ""
        end = f", and it is over{reason}" if result.episode_done else ""
        self.transcript.append(f"  earns   {result.reward:g}{end}")
        extends = list(new[: len(known)]) == list(known)
        rest = new[len(known) :] if extends else new
        (self._show if self.is_of_tokens else self._show_messages)(rest)
        self._check_extends(extends, is_empty=not new)
        self._check_length()

    def _check_result(self, result: Any) -> None:
        if self.is_of_tokens:
            checked_step(result)
        elif not isinstance(result, MessageStepResult):
            raise AssertionError(
                f"{self.name}.step: expected a MessageStepResult; got {type(result).__name__}. "
                "Return MessageStepResult(reward, episode_done, next_messages)."
            )
        if not math.isfinite(result.reward):
            raise AssertionError(
                f"{self.name}.step: expected a finite reward; got {result.reward}. Look at what it "
                "is divided by."
            )

    def _check_extends(self, extends: bool, *, is_empty: bool) -> None:
        env = self._member.env
        if extends or getattr(env, "rewrites_history", False) or (is_empty and self.is_over):
            return
        raise AssertionError(
            f"{self.name}.step: expected an observation that begins with the last one and the "
            "action; got another. Add to what was there, or set rewrites_history = True on the "
            "class."
        )

    def _check_length(self) -> None:
        limit = self._max_turns
        if limit is not None and len(self.results) >= limit and not self.is_over:
            raise AssertionError(
                f"{self.name}.step: expected the episode to end within {limit} turns (max_turns); "
                f"it goes on after {len(self.results)}. End it, or raise the limit."
            )

    def _tokens(self, action: Any) -> list[int]:
        """An action in tokens: a text ends with what the environment asks for."""
        if _is_text(action):
            return [*self._space.encode(action), *self._end()]
        if not isinstance(action, dict):
            return [int(token) for token in action]
        if self._renderer is None:
            raise RequestError(
                f"{self.name}: expected an environment with a renderer to write messages in; got "
                "none. Act with a text or with tokens."
            )
        question = Message(role="user", content="?")
        tokens, weights = self._renderer.build_supervised_example(
            [question, action], TrainOnWhat.LAST_ASSISTANT_MESSAGE
        )
        return [t for t, weight in zip(tokens.to_ints(), weights, strict=True) if weight]

    def _end(self) -> Sequence[int]:
        end: Any = next(iter(self._stop or ()), None)
        if end is None:
            return ()
        return self._space.encode(end) if isinstance(end, str) else (int(end),)

    def _show(self, tokens: Sequence[int]) -> None:
        if tokens:
            self.transcript.append(f"  sees    {self._space.decode(tokens)}")
        env = self._member.env
        if isinstance(env, EnvFromMessageEnv):
            self._take_over_messages(env.shown_messages)
        elif tokens:
            self.shown = self._text(tokens)

    def _take_over_messages(self, messages: tuple[Message, ...]) -> None:
        """Of an environment of messages inside: what came since the one that was written."""
        known, self._messages = self._messages, messages
        has_grown = bool(known) and messages[: len(known)] == known
        new = messages[len(known) + 1 :] if has_grown else messages
        if new:
            self.shown = format_content_as_string(new[-1]["content"])

    def _text(self, tokens: Sequence[int]) -> str:
        tokenizer = self._space.tokenizer
        return self._space.decode(tokens) if tokenizer is None else str(tokenizer.decode(tokens))

    def _show_messages(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.shown = format_content_as_string(message["content"])
            self.transcript.append(f"  sees    {message['role']}: {self.shown!r}")


def _is_text(action: Any) -> bool:
    return isinstance(action, str)
