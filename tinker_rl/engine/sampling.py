"""The actor that owns the sampler of one base model."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import anyio

from tinker_rl.actors import Actor, Message, handler
from tinker_rl.engine.device import DeviceThread
from tinker_rl.engine.samplers.base import (
    AdapterWeights,
    SampleJob,
    SamplerCore,
    check_sample,
    stop_rule,
)
from tinker_rl.engine.ticket import Ticket
from tinker_rl.errors import EngineError, RequestError, UnknownNameError
from tinker_rl.futures import wait_for
from tinker_rl.requests import Sample
from tinker_rl.types import SampleResponse

__all__ = ["CancelSample", "OpenSampler", "ReleaseSampler", "SamplerActor", "StartSample"]

_log = logging.getLogger(__name__)

_BURST_SECONDS = 0.02
BASE_VERSION = ""


class OpenSampler(Message[None], frozen=True):
    """Let `sampler_id` sample from these weights from now on; None is the base model."""

    sampler_id: str
    weights: Any
    """AdapterWeights or None; tensors of this process."""


class ReleaseSampler(Message[None], frozen=True):
    sampler_id: str


class StartSample(Message[None], frozen=True):
    ticket: Any


class CancelSample(Message[None], frozen=True):
    ticket: Any


@dataclass(eq=False)
class _Sampler:
    version: str
    clients: int = 1


@dataclass(eq=False)
class _Request:
    ticket: Ticket
    job: SampleJob
    weights: AdapterWeights | None
    """Of the job's version; its last client may be gone before the job ends."""
    attempts: int = 0
    """How many samplers were given the job."""

    def give(self, core: SamplerCore) -> None:
        self.attempts += 1
        core.add(self.job)


class SamplerActor(Actor):
    """Versions and requests of one base model's sampler.

    Handlers note what is to be done; one task beside them hands it to the sampler, which works in
    the device's thread, a burst at a time. A sampler that fails is replaced: its weights are loaded
    again, and its requests are asked again, once, with the same seeds.
    """

    reply_errors = (Exception,)
    """Weights that cannot be loaded are a matter of whoever opens them."""

    def __init__(
        self,
        make_core: Callable[[], SamplerCore],
        device: DeviceThread,
        vocab_size: int,
        context: int,
        eos: Sequence[int],
    ) -> None:
        self._make_core = make_core
        self._core = make_core()
        self._device = device
        self._vocab_size = vocab_size
        self._context = context
        self._eos = eos
        self._ids = itertools.count(1)
        self._samplers: dict[str, _Sampler] = {}
        self._users: dict[str, int] = {}
        """Samplers of each version."""
        self._weights: dict[str, AdapterWeights] = {}
        self._requests: dict[int, _Request] = {}
        self._todo: deque[Callable[[SamplerCore], None]] = deque()
        self._work = anyio.Event()

    async def on_start(self) -> None:
        self.start_soon(self._run)

    # --------------------------------------------------------------------------------- handlers

    @handler
    async def open_sampler(self, message: OpenSampler) -> None:
        weights: AdapterWeights | None = message.weights
        version = weights.content_hash if weights is not None else BASE_VERSION
        if weights is not None and version not in self._users:
            self._weights[version] = weights
            try:
                await self._done(lambda core: core.add_version(version, weights))
            except BaseException:
                self._weights.pop(version, None)
                raise
        self._users[version] = self._users.get(version, 0) + 1
        known = self._samplers.get(message.sampler_id)
        if known is None:
            self._samplers[message.sampler_id] = _Sampler(version)
        else:  # a client that follows the weights in flight
            old, known.version = known.version, version
            known.clients += 1
            self._drop_user(old)

    @handler
    async def release_sampler(self, message: ReleaseSampler) -> None:
        sampler = self._samplers.get(message.sampler_id)
        if sampler is None:
            return
        sampler.clients -= 1
        if sampler.clients == 0:
            del self._samplers[message.sampler_id]
            self._drop_user(sampler.version)

    def _drop_user(self, version: str) -> None:
        self._users[version] -= 1
        if self._users[version] == 0:
            del self._users[version]
            if version != BASE_VERSION:
                del self._weights[version]
                self._do(lambda core: core.remove_version(version))

    @handler
    async def start_sample(self, message: StartSample) -> None:
        ticket: Ticket = message.ticket
        with ticket.errors():
            job = self._job(ticket.request)
            request = _Request(ticket, job, self._weights.get(job.version))
            self._requests[job.job_id] = request
            self._do(request.give)

    @handler
    async def cancel_sample(self, message: CancelSample) -> None:
        job_id = next((i for i, r in self._requests.items() if r.ticket is message.ticket), None)
        if job_id is not None:
            del self._requests[job_id]
            self._do(lambda core: core.cancel(job_id))
            message.ticket.promise.fail(
                RequestError(
                    "sample: expected somebody to wait for it; got its await cancelled or timed "
                    "out, so the sampling was given up. Ask again."
                )
            )

    async def _done(self, action: Callable[[SamplerCore], None]) -> None:
        """Do it in turn, and wait; its error is raised here."""
        future: Future[None] = Future()

        def act(core: SamplerCore) -> None:
            try:
                future.set_result(action(core))
            except Exception as error:
                future.set_exception(error)

        self._do(act)
        await wait_for(future)

    def _do(self, action: Callable[[SamplerCore], None]) -> None:
        self._todo.append(action)
        self._work.set()

    def _job(self, request: Any) -> SampleJob:
        assert isinstance(request, Sample)
        sampler = self._samplers.get(request.sampler_id)
        if sampler is None:
            raise UnknownNameError(
                f"sample: expected a sampler that is open; got {request.sampler_id!r}. Create a "
                "sampling client again."
            )
        params = request.sampling_params
        return SampleJob(
            job_id=next(self._ids),
            version=sampler.version,
            prompt=tuple(request.prompt.to_ints()),
            num_samples=request.num_samples,
            max_tokens=check_sample(request, self._vocab_size, self._context),
            seed=params.seed if params.seed is not None else secrets.randbits(63),
            stop=stop_rule(params.stop, self._eos),
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            topk_samples=request.topk_sample_logprobs,
            prompt_logprobs=request.prompt_logprobs,
            topk_prompt=request.topk_prompt_logprobs,
            prompt_last_n=request.prompt_logprobs_last_n,
        )

    # ------------------------------------------------------------------------------------- work

    async def _run(self) -> None:
        while True:
            if not self._todo and self._core.idle:
                self._work = anyio.Event()
                await self._work.wait()
            todo, self._todo = self._todo, deque()
            try:
                done = await self._device.run(_turn, self._core, todo)
            except Exception as error:
                self._todo.extendleft(reversed(todo))  # what the turn did not come to
                self._start_over(error)
                continue
            for job_id, response in done:
                request = self._requests.pop(job_id, None)
                if request is not None:
                    request.ticket.promise.resolve(response)

    def _start_over(self, error: Exception) -> None:
        """The sampler broke: put a new one in its place, and ask it for what is not done."""
        _log.error("the sampler failed and is replaced", exc_info=error)
        self._core = self._make_core()
        again: list[_Request] = []
        for job_id, request in list(self._requests.items()):
            if request.attempts == 1:
                again.append(request)
            elif request.attempts > 1:
                del self._requests[job_id]
                wrapped = EngineError(
                    f"sample: the sampler failed twice, last with {type(error).__name__}: {error}. "
                    "It was replaced; ask again, with fewer samples at once if this is memory."
                )
                wrapped.__cause__ = error
                request.ticket.promise.fail(wrapped)
        loaded = {r.job.version: r.weights for r in again if r.weights} | self._weights
        for version, weights in loaded.items():
            self._todo.appendleft(_adding(version, weights))
        self._todo.extend(request.give for request in again)
        for version in set(loaded) - set(self._weights):
            self._todo.append(_removing(version))


def _adding(version: str, weights: AdapterWeights) -> Callable[[SamplerCore], None]:
    def add(core: SamplerCore) -> None:
        try:
            core.add_version(version, weights)
        except Exception:  # raised on, it would start the sampler over for ever
            _log.exception("weights could not be loaded again")

    return add


def _removing(version: str) -> Callable[[SamplerCore], None]:
    return lambda core: core.remove_version(version)


def _turn(
    core: SamplerCore, todo: deque[Callable[[SamplerCore], None]]
) -> list[tuple[int, SampleResponse]]:
    """Do what was asked for, then sample for a while."""
    while todo:
        todo.popleft()(core)
    return core.burst(_BURST_SECONDS)
