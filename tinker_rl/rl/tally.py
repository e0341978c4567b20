"""What the episodes of a group cost so far."""

from __future__ import annotations

from typing import Literal, TypeAlias

import anyio

from tinker_rl.rl.outcomes import Failure, MemberFailure, RolloutTimes

__all__ = ["Call", "EpisodeTally", "Tally"]

Call: TypeAlias = tuple[int, Literal["e", "s"], float, float]
"""Member, who was waited for (the environment or the sampler), and, in seconds, since the start of
the group and for how long."""

MAX_CALLS = 4096
"""Calls of one group that are kept one by one."""


class Tally:
    """Tokens, seconds and failures of one group, all attempts included."""

    def __init__(self) -> None:
        self.num_sampled_tokens = 0
        self.calls: list[Call] = []
        """The first calls, in the order in which they ended."""
        self._began = anyio.current_time()
        self._env_seconds = 0.0
        self._sample_seconds = 0.0
        self._longest_env_seconds = 0.0
        self._failures: list[MemberFailure] = []

    def of(self, member: int) -> EpisodeTally:
        """The tally of one of the episodes, which counts for the group too."""
        return EpisodeTally(self, member)

    def failed(self, member: int | None, attempt: int, failure: Failure) -> None:
        """Note a failed attempt."""
        self._failures.append(MemberFailure(member=member, attempt=attempt, failure=failure))

    def waited_for_env(self, member: int, began: float, seconds: float) -> None:
        """Note a call of an environment."""
        self._env_seconds += seconds
        self.waited_for_builder(seconds)
        self._note(member, "e", began, seconds)

    def waited_for_builder(self, seconds: float) -> None:
        """Note a call of the builder."""
        self._longest_env_seconds = max(self._longest_env_seconds, seconds)

    def waited_for_sampler(self, member: int, began: float, seconds: float) -> None:
        """Note the sampling of an action."""
        self._sample_seconds += seconds
        self._note(member, "s", began, seconds)

    def _note(self, member: int, whom: Literal["e", "s"], began: float, seconds: float) -> None:
        if len(self.calls) < MAX_CALLS:
            self.calls.append((member, whom, began - self._began, seconds))

    @property
    def failures(self) -> tuple[MemberFailure, ...]:
        """In an order that does not depend on the timing: the group's own, then by member."""
        return tuple(
            sorted(self._failures, key=lambda f: (-1 if f.member is None else f.member, f.attempt))
        )

    def times(self) -> RolloutTimes:
        """Where the time went until now."""
        return RolloutTimes(
            seconds=anyio.current_time() - self._began,
            env_seconds=self._env_seconds,
            sample_seconds=self._sample_seconds,
            longest_env_seconds=self._longest_env_seconds,
        )


class EpisodeTally:
    """What one episode costs, on the tally of its group."""

    def __init__(self, group: Tally, member: int) -> None:
        self._group = group
        self._member = member

    def sampled(self, num_tokens: int) -> None:
        """Note the tokens of an action."""
        self._group.num_sampled_tokens += num_tokens

    def waited_for_env(self, began: float) -> None:
        """Note a call of the environment that ends now."""
        self._group.waited_for_env(self._member, began, anyio.current_time() - began)

    def waited_for_sampler(self, began: float) -> None:
        """Note the sampling of an action that ends now."""
        self._group.waited_for_sampler(self._member, began, anyio.current_time() - began)
