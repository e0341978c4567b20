"""The episodes of one group, played at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from tinker_rl.envs import Env, Trajectory
from tinker_rl.rl.failures import EpisodeFailed
from tinker_rl.rl.group_policies import GroupPolicy
from tinker_rl.rl.outcomes import Completed, Failure, Outcome, Truncated
from tinker_rl.rl.tally import Tally

__all__ = ["Members"]


class Members:
    """Plays the episodes, some of them again, until all are done or the group is lost.

    Args:
        envs: The environments, one for each episode.
        play_one: Plays `(member, attempt, environment)`.
        make_again: A fresh environment for a member. Raises EpisodeFailed.
        policy: Says whether the group is lost.
        num_retries: How often an episode is played again.
        tally: Notes the failures.
    """

    def __init__(
        self,
        envs: list[Env],
        play_one: Callable[[int, int, Env], Awaitable[Outcome]],
        make_again: Callable[[int], Awaitable[Env]],
        policy: GroupPolicy,
        num_retries: int,
        tally: Tally,
    ) -> None:
        self._envs = envs
        self._play = play_one
        self._make_again = make_again
        self._policy = policy
        self._num_retries = num_retries
        self._tally = tally
        self._trajectories: dict[int, Trajectory] = {}
        self._num_lost = 0
        self.fatal: tuple[int, Failure] | None = None
        """The failure that lost the group, and whose it was."""

    async def play(self, attempt: int) -> None:
        """Play all episodes, each from this attempt on."""
        async with anyio.create_task_group() as episodes:

            async def play_one(member: int) -> None:
                failure = await self._play_member(member, attempt)
                if failure is None or self.fatal is not None:
                    return
                self._num_lost += 1
                size = len(self._envs)
                if not self._policy.is_viable(size - self._num_lost, size):
                    self.fatal = member, failure
                    episodes.cancel_scope.cancel()

            for member in range(len(self._envs)):
                episodes.start_soon(play_one, member)

    @property
    def places(self) -> tuple[int, ...] | None:
        """Who is done, in order; None: all of them."""
        return None if len(self._trajectories) == len(self._envs) else self._done()

    @property
    def trajectories(self) -> list[Trajectory]:
        """Of those who are done."""
        return [self._trajectories[place] for place in self._done()]

    @property
    def envs(self) -> list[Env]:
        """Of those who are done."""
        return [self._envs[place] for place in self._done()]

    def _done(self) -> tuple[int, ...]:
        return tuple(sorted(self._trajectories))

    async def _play_member(self, member: int, first_attempt: int) -> Failure | None:
        """Play one episode until it does not fail; what it failed of last, when it gives up."""
        attempt = first_attempt
        while True:
            outcome = await self._try(member, attempt, again=attempt > first_attempt)
            if isinstance(outcome, Completed | Truncated):
                self._trajectories[member] = outcome.trajectory
                return None
            if self.fatal is None:  # else it was cancelled, and failed of that
                self._tally.failed(member, attempt, outcome)
            if attempt - first_attempt == self._num_retries:
                return outcome
            attempt += 1

    async def _try(self, member: int, attempt: int, *, again: bool) -> Outcome:
        if again:
            try:
                self._envs[member] = await self._make_again(member)
            except EpisodeFailed as failed:
                return failed.failure
        return await self._play(member, attempt, self._envs[member])
