"""A group of environments that lives in an event loop of its own, played by plain code.

The loop lives as long as the group, and each episode in one task of it, as in a run. In virtual
time hours pass at once while a call is made, and none between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio

from tinker_rl.envs import Env, EnvGroupBuilder, MessageEnv, Metrics, Trajectory
from tinker_rl.envs.answers import answer_of
from tinker_rl.envs.blocking import call_env
from tinker_rl.envs.containment import contained
from tinker_rl.envs.randomness import seeded_rng
from tinker_rl.policies import EpisodeKey, playing
from tinker_rl.rl.builder_calls import GROUP_ITSELF, GROUP_REWARDS
from tinker_rl.rl.env_answers import checked_pairs
from tinker_rl.testing.state_machines.stepped_loop import SteppedLoop

__all__ = ["LivingGroup", "Member"]


class Member:
    """One environment and its task: what it was asked, and what it answered."""

    def __init__(self, env: Env | MessageEnv, key: EpisodeKey) -> None:
        self.env = env
        self.answers: list[Any] = []
        """What `initial_observation` and then every `step` gave."""
        self.error: Exception | None = None
        """What it raised."""
        self._key = key
        self._calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._asked = anyio.Event()
        self._answered = anyio.Event()

    @property
    def is_waiting(self) -> bool:
        """Whether a call has no answer yet."""
        return not self._answered.is_set()

    def ask(self, method: str, *args: Any, **options: Any) -> None:
        """Have a method called in the member's task."""
        self._answered = anyio.Event()
        self._calls.append((method, args, options))
        self._asked.set()

    async def answered(self) -> None:
        """Wait for the answer of the last call."""
        await self._answered.wait()

    async def live(self) -> None:
        """Make the calls that are asked for. Cancelled, it leaves the environment as it is."""
        try:
            await contained(lambda _: self._make_calls())
        except Exception as error:  # it left something open
            self.error = error

    async def _make_calls(self) -> None:
        with seeded_rng(self._key.env_rng()), playing(self._key, None):
            while True:
                await self._asked.wait()
                self._asked = anyio.Event()
                while self._calls:
                    await self._make(*self._calls.pop(0))

    async def _make(self, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            self.answers.append(await call_env(self.env, method, *args, **options))
        except Exception as error:
            self.error = error
        self._answered.set()


class LivingGroup:
    """Makes the group of a builder and keeps it, until it is closed.

    Args:
        builder: Makes the environments.
        seed: Of the run that the episodes seem to belong to.
        backend: Event loop.
        step_seconds: Longest that a call may take, in virtual seconds.
        pending_seconds: After so long a call counts as one that waits for another member, if there
            is one who can act.
        cleanup_seconds: Longest that the clean-up may take.
    """

    def __init__(
        self,
        builder: EnvGroupBuilder,
        *,
        seed: int,
        backend: str,
        step_seconds: float,
        pending_seconds: float,
        cleanup_seconds: float,
    ) -> None:
        self.builder = builder
        self.members: list[Member] = []
        self._key = EpisodeKey(run_seed=seed, group=0)
        self._step_seconds = step_seconds
        self._pending_seconds = pending_seconds
        self._cleanup_seconds = cleanup_seconds
        self._loop = SteppedLoop(backend)

    def open(self) -> None:
        """Make the environments and ask each for its first observation. Raises what they raise."""
        self._loop.call(self._open)

    def call(self, member: int, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of an environment.

        Returns:
            What it gives; None if it waits for another member, and `Member.answers` has it later.
        Raises:
            TimeoutError: if there is no answer, and nobody to wait for.
        """
        return self._loop.call(self._call, member, method, args, options)

    def rewards(self, trajectories: list[Trajectory]) -> list[tuple[float, Metrics]]:
        """What `compute_group_rewards` gives for these episodes, checked."""
        return self._loop.call(self._rewards, trajectories)

    def close(self) -> None:
        """End the episodes, clean up, and end the loop. Raises what the clean-up raises."""
        try:
            self._loop.call(self._close)
        finally:
            self._loop.close()

    # ----------------------------------------------------------------------- in the event loop

    async def _open(self) -> None:
        with (
            seeded_rng(self._with(GROUP_ITSELF).env_rng()),
            playing(self._with(GROUP_ITSELF), None),
        ):
            envs: Sequence[Any] = await answer_of(self.builder, "make_envs")
        self.members = [Member(env, self._with(place)) for place, env in enumerate(envs)]
        for member in self.members:
            self._loop.start(member.live)
            member.ask("initial_observation")
        for member in self.members:
            await self._wait_for(member)

    async def _call(
        self, place: int, method: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        member = self.members[place]
        size = len(member.answers)
        member.ask(method, *args, **options)
        await self._wait_for(member)
        return member.answers[size] if len(member.answers) > size else None

    async def _wait_for(self, member: Member) -> None:
        """Wait for an answer, or until it is clear that it depends on another member."""
        with anyio.move_on_after(self._pending_seconds):
            await member.answered()
        if member.is_waiting and all(other.is_waiting for other in self.members):
            with anyio.move_on_after(self._step_seconds):
                await member.answered()
        await anyio.wait_all_tasks_blocked()  # the others, who may have waited for this, go on
        self._raise_errors()
        if all(other.is_waiting for other in self.members):
            raise TimeoutError(
                f"{type(member.env).__name__}: expected an answer within {self._step_seconds:g} "
                "seconds; got none, and no other member can act. See what it waits for."
            )

    def _raise_errors(self) -> None:
        for member in self.members:
            if member.error is not None:
                error, member.error = member.error, None
                raise error

    async def _rewards(self, trajectories: list[Trajectory]) -> list[tuple[float, Metrics]]:
        envs = [member.env for member in self.members]
        key = self._with(GROUP_REWARDS)
        with seeded_rng(key.env_rng()), playing(self._with(GROUP_ITSELF), None):
            answer = await answer_of(self.builder, "compute_group_rewards", trajectories, envs)
        return checked_pairs(answer, len(trajectories))

    async def _close(self) -> None:
        self._loop.cancel_started()
        key = self._with(GROUP_ITSELF)
        with (
            seeded_rng(key.env_rng()),
            playing(key, None),
            anyio.fail_after(self._cleanup_seconds),
        ):
            await answer_of(self.builder, "cleanup")

    def _with(self, member: int) -> EpisodeKey:
        return EpisodeKey(run_seed=self._key.run_seed, group=0, member=member)
