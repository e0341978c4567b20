"""The embedded sampler as the engine's actors use it: in the device's thread, and replaced when it
fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import anyio

from tinker_rl.engine.content_hash import content_hash
from tinker_rl.engine.device import DeviceThread
from tinker_rl.engine.samplers.base import AdapterWeights, Finish, SampleJob
from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSampler
from tinker_rl.errors import EngineError
from tinker_rl.futures import wait_for
from tinker_rl.types import SampleResponse

__all__ = ["EmbeddedHost"]

_log = logging.getLogger(__name__)

_BURST_SECONDS = 0.02

Action = Callable[[EmbeddedSampler], None]


@dataclass(eq=False)
class _Job:
    job: SampleJob
    weights: AdapterWeights | None
    """Of the job's version; it may have been unloaded before the job ends."""
    attempts: int = 0
    """How many samplers were given the job."""
    is_interrupted: bool = False

    def give(self, sampler: EmbeddedSampler) -> None:
        self.attempts += 1
        sampler.add(self.job)

    def interrupt(self, sampler: EmbeddedSampler) -> None:
        sampler.interrupt(self.job.job_id)


class EmbeddedHost:
    """Notes what is to be done; one task hands it to the sampler, a burst at a time.

    A sampler that fails is replaced: its weights are loaded again, and its jobs are asked again,
    once, with the same seeds.
    """

    def __init__(
        self,
        make_sampler: Callable[[], EmbeddedSampler],
        device: DeviceThread,
        context: int,
        finish: Finish,
    ) -> None:
        self.context = context
        self._make_sampler = make_sampler
        self._sampler = make_sampler()
        self._device = device
        self._finish = finish
        self._weights: dict[str, AdapterWeights] = {}
        self._jobs: dict[int, _Job] = {}
        self._todo: deque[Action] = deque()
        self._work = anyio.Event()

    async def serve(self) -> None:
        """Work until cancelled."""
        while True:
            if not self._todo and self._sampler.idle:
                self._work = anyio.Event()
                await self._work.wait()
            todo, self._todo = self._todo, deque()
            try:
                done = await self._device.run(_turn, self._sampler, todo)
            except Exception as error:
                self._todo.extendleft(reversed(todo))  # what the turn did not come to
                self._start_over(error)
                continue
            for job_id, response in done:
                if self._jobs.pop(job_id, None) is not None:
                    self._finish(job_id, response)

    async def load(self, version: str, weights: AdapterWeights) -> str:
        """Make a version's weights ready; see `Sampler.load`."""
        self._weights[version] = weights
        loaded: Future[str] = Future()

        def load(sampler: EmbeddedSampler) -> None:
            try:
                sampler.add_version(version, weights)
                loaded.set_result(content_hash(weights.tensors))
            except Exception as error:
                loaded.set_exception(error)

        self._do(load)
        try:
            return await wait_for(loaded)
        except BaseException:
            self.unload(version)
            raise

    def unload(self, version: str) -> None:
        """Forget a version as soon as no job uses it."""
        if self._weights.pop(version, None) is not None:
            self._do(_removing(version))

    def start(self, job: SampleJob) -> None:
        """Queue a job."""
        entry = self._jobs[job.job_id] = _Job(job, self._weights.get(job.version))
        self._do(entry.give)

    def cancel(self, job_id: int) -> None:
        """Drop a job, wherever it is."""
        if self._jobs.pop(job_id, None) is not None:
            self._do(lambda sampler: sampler.cancel(job_id))

    def interrupt(self, job_id: int) -> None:
        """End a job now; its answer is what it has so far."""
        entry = self._jobs.get(job_id)
        if entry is not None and not entry.is_interrupted:
            entry.is_interrupted = True
            self._do(entry.interrupt)

    def _do(self, action: Action) -> None:
        self._todo.append(action)
        self._work.set()

    def _start_over(self, error: Exception) -> None:
        """The sampler broke: put a new one in its place, and ask it for what is not done."""
        _log.error("the sampler failed and is replaced", exc_info=error)
        self._sampler = self._make_sampler()
        again: list[_Job] = []
        for job_id, entry in list(self._jobs.items()):
            if entry.attempts == 1:
                again.append(entry)
            elif entry.attempts > 1:
                del self._jobs[job_id]
                wrapped = EngineError(
                    f"sample: the sampler failed twice, last with {type(error).__name__}: {error}. "
                    "It was replaced; ask again, with fewer samples at once if this is memory."
                )
                wrapped.__cause__ = error
                self._finish(job_id, wrapped)
        jobs = self._jobs.values()
        loaded = {e.job.version: e.weights for e in jobs if e.weights} | self._weights
        first = [_adding(version, weights) for version, weights in loaded.items()]
        first += [entry.give for entry in again]  # before a version that they use is removed
        self._todo.extendleft(reversed(first))
        self._todo.extend(entry.interrupt for entry in again if entry.is_interrupted)
        for version in set(loaded) - set(self._weights):
            self._todo.append(_removing(version))


def _adding(version: str, weights: AdapterWeights) -> Action:
    def add(sampler: EmbeddedSampler) -> None:
        try:
            sampler.add_version(version, weights)
        except Exception:  # raised on, it would start the sampler over for ever
            _log.exception("weights could not be loaded again")

    return add


def _removing(version: str) -> Action:
    return lambda sampler: sampler.remove_version(version)


def _turn(sampler: EmbeddedSampler, todo: deque[Action]) -> list[tuple[int, SampleResponse]]:
    """Do what was asked for, then sample for a while."""
    while todo:
        todo.popleft()(sampler)
    return sampler.burst(_BURST_SECONDS)
