"""Evaluations beside training, each of a version that stays as it is meanwhile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from tinker_rl.envs import RLDataset
from tinker_rl.policies import Priority, SamplerGate
from tinker_rl.rl.config import Config, SamplingClientEvaluator
from tinker_rl.rl.evaluator import RLTestSetEvaluator
from tinker_rl.rl.timeline import NO_TIMELINE, Timeline

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["Evaluations", "make_evaluators"]

_Asked: TypeAlias = "tuple[int, SamplingClient]"

MAX_WAITING = 2
"""Versions that wait to be evaluated; a run that trains much faster waits for its evaluations."""


class Evaluations:
    """Evaluates one version after the other, in the order in which they are handed in.

    Args:
        evaluators: What is measured.
        num_steps: Steps of the whole run; the last version is evaluated in any case.
        every: Steps between evaluations; 0: none at all.
        record: Takes in what was measured of a version.
        timeline: Is told how long it took.
    """

    def __init__(
        self,
        evaluators: Sequence[SamplingClientEvaluator],
        num_steps: int,
        every: int,
        record: Callable[[int, dict[str, float]], Awaitable[None]],
        timeline: Timeline = NO_TIMELINE,
    ) -> None:
        self._evaluators = evaluators
        self._num_steps = num_steps
        self._every = every if evaluators else 0
        self._record = record
        self._timeline = timeline
        self._send: MemoryObjectSendStream[_Asked] | None = None
        self.num_owed = 0
        """Versions handed in and not recorded."""

    def is_due(self, version: int) -> bool:
        """Whether a version is to be evaluated."""
        if self._every == 0:
            return False
        return version % self._every == 0 or version == self._num_steps

    async def begin(self, version: int, sampling_client: SamplingClient) -> None:
        """Hand in a version; returns when it has its place. Cancelled, it may have it or not."""
        self.num_owed += 1
        assert self._send is not None, "begin: outside of beside()"
        await self._send.send((version, sampling_client))

    @asynccontextmanager
    async def beside(self) -> AsyncGenerator[None]:
        """Evaluate beside the block, and after it what is left.

        What an evaluator raises cancels the block. Cancelled, what was not recorded is to be done
        again.
        """
        self._send, recv = anyio.create_memory_object_stream[_Asked](MAX_WAITING)
        with recv:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._serve, recv)
                with self._send:
                    yield

    async def _serve(self, asked: MemoryObjectReceiveStream[_Asked]) -> None:
        async for version, sampling_client in asked:
            found: dict[str, float] = {}
            with self._timeline.spanning("evaluation", "evaluates", version=version):
                for evaluator in self._evaluators:
                    found |= await evaluator(sampling_client)
            await self._record(version, found)
            self.num_owed -= 1


def make_evaluators(
    config: Config,
    test_dataset: RLDataset | None,
    gate: SamplerGate,
    rank: Callable[[], Priority],
) -> list[SamplingClientEvaluator]:
    """Those of a run: held-out problems, if there are any, and what its config builds.

    Args:
        gate: Grants the sampler's slots to the held-out problems.
        rank: Gives their priority at it.
    """
    found: list[SamplingClientEvaluator] = []
    if test_dataset is not None and len(test_dataset):
        on_held_out = RLTestSetEvaluator(
            test_dataset,
            config.max_tokens,
            seed=config.seed,
            limits=config.limits,
            max_failed_group_fraction=config.max_failed_group_fraction,
            gate=gate,
            rank=rank,
        )
        found.append(on_held_out)
    return [*found, *(build() for build in config.evaluator_builders)]
