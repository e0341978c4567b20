"""What the episodes of a group cost so far."""

from __future__ import annotations

import anyio

from tinker_rl.rl.outcomes import Failure, MemberFailure, RolloutTimes

__all__ = ["Tally"]


class Tally:
    """Tokens, seconds and failures of one group, all attempts included."""

    def __init__(self) -> None:
        self.num_sampled_tokens = 0
        self._began = anyio.current_time()
        self._env_seconds = 0.0
        self._sample_seconds = 0.0
        self._longest_env_seconds = 0.0
        self._failures: list[MemberFailure] = []

    def failed(self, member: int | None, attempt: int, failure: Failure) -> None:
        """Note a failed attempt."""
        self._failures.append(MemberFailure(member=member, attempt=attempt, failure=failure))

    def waited_for_env(self, seconds: float) -> None:
        """Note a call of an environment."""
        self._env_seconds += seconds
        self.waited_for_builder(seconds)

    def waited_for_builder(self, seconds: float) -> None:
        """Note a call of the builder."""
        self._longest_env_seconds = max(self._longest_env_seconds, seconds)

    def waited_for_sampler(self, seconds: float) -> None:
        """Note the sampling of an action."""
        self._sample_seconds += seconds

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
