"""The actor that owns the sampler of one base model."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tinker_rl.actors import Actor, Message, handler
from tinker_rl.engine.samplers.base import (
    BASE_VERSION,
    AdapterWeights,
    Finish,
    SampleJob,
    Sampler,
    check_sample,
    stop_rule,
)
from tinker_rl.engine.sentinel import Probe, check_hash, check_probe, probe_jobs
from tinker_rl.engine.ticket import Ticket
from tinker_rl.errors import RequestError, UnknownNameError
from tinker_rl.futures import Promise, wait_for
from tinker_rl.requests import Sample, WeightSync
from tinker_rl.types import SampleResponse

__all__ = [
    "CancelSample",
    "InterruptSample",
    "OpenSampler",
    "ReleaseSampler",
    "SamplerActor",
    "StartSample",
]


class OpenSampler(Message[None], frozen=True):
    """Let `sampler_id` sample from these weights from now on; None is the base model.

    Told, not asked: the promise is kept when the weights are there and proved, and others are
    served meanwhile.
    """

    sampler_id: str
    weights: Any
    """AdapterWeights or None; tensors of this process."""
    promise: Any
    """Promise of a WeightSync, or of None for the base model."""
    probe: Any = None
    """A Probe to prove the weights by, where a learner has them."""


class ReleaseSampler(Message[None], frozen=True):
    sampler_id: str


class StartSample(Message[None], frozen=True):
    ticket: Any


class CancelSample(Message[None], frozen=True):
    ticket: Any


class InterruptSample(Message[None], frozen=True):
    """The ticket's result is to be what there is of it now."""

    ticket: Any


@dataclass(eq=False)
class _Client:
    """A sampler as its users know it: an id and the weights behind it."""

    version: str
    order: int
    clients: int = 1


@dataclass(eq=False)
class _Version:
    """Weights that the sampler has, or is getting."""

    ready: Promise[WeightSync]
    users: int = 1


@dataclass(eq=False)
class _Probing:
    """Jobs of a probe, and the answers that are there."""

    answers: dict[int, SampleResponse] = field(default_factory=dict[int, SampleResponse])
    done: Future[None] = field(default_factory=Future[None])


class SamplerActor(Actor):
    """Versions and requests of one base model's sampler.

    A version is open for requests when it is proved: the sampler holds the very bytes that were
    published, and scores a probe as the learner does.
    """

    def __init__(
        self,
        make_sampler: Callable[[Finish], Sampler],
        vocab_size: int,
        eos: Sequence[int],
        tolerance: float,
    ) -> None:
        """
        Args:
            tolerance: Greatest difference of a probe's logprobs, in nats.
        """
        self._sampler = make_sampler(self._finish)
        self._vocab_size = vocab_size
        self._eos = eos
        self._tolerance = tolerance
        self._ids = itertools.count(1)
        self._orders = itertools.count(1)
        self._clients: dict[str, _Client] = {}
        self._versions: dict[str, _Version] = {}
        self._tickets: dict[int, Ticket] = {}
        self._job_ids: dict[Ticket, int] = {}
        self._probing: dict[int, _Probing] = {}

    async def on_start(self) -> None:
        self.start_soon(self._sampler.serve)

    # ---------------------------------------------------------------------------------- versions

    @handler
    async def open_sampler(self, message: OpenSampler) -> None:
        self.start_soon(self._open, message, next(self._orders))

    async def _open(self, message: OpenSampler, order: int) -> None:
        weights: AdapterWeights | None = message.weights
        version, sync = BASE_VERSION, None
        if weights is not None:
            version = weights.version
            try:
                sync = await self._take(weights, message.probe)
            except Exception as error:
                message.promise.fail(error)
                return
        known = self._clients.get(message.sampler_id)
        if known is None:
            self._clients[message.sampler_id] = _Client(version, order)
        else:  # a client that follows the weights in flight: the newest win
            known.clients += 1
            older = version
            if order > known.order:
                older, known.version, known.order = known.version, version, order
            self._drop_user(older)
        message.promise.resolve(sync)

    async def _take(self, weights: AdapterWeights, probe: Probe | None) -> WeightSync:
        """Count one user more of these weights; the first has them loaded and proved."""
        known = self._versions.get(weights.version)
        if known is not None:
            known.users += 1
            sync = await known.ready.future  # one who fails takes all users along
            return msgspec.structs.replace(sync, load_seconds=0.0, probe_seconds=0.0)
        entry = self._versions[weights.version] = _Version(Promise())
        try:
            sync = await self._load(weights, probe)
        except BaseException as error:
            del self._versions[weights.version]
            entry.ready.fail(error)
            raise
        entry.ready.resolve(sync)
        return sync

    async def _load(self, weights: AdapterWeights, probe: Probe | None) -> WeightSync:
        version, began = weights.version, time.monotonic()
        loaded_hash = await self._sampler.load(version, weights)
        loaded_at = time.monotonic()
        try:
            check_hash(weights, loaded_hash)
            difference = None
            if probe is not None:
                responses = await self._score(probe, version)
                difference = check_probe(version, probe, responses, self._tolerance)
        except BaseException:
            self._sampler.unload(version)
            raise
        return WeightSync(
            content_hash=loaded_hash,
            max_abs_logprob_diff=difference,
            load_seconds=loaded_at - began,
            probe_seconds=time.monotonic() - loaded_at,
        )

    async def _score(self, probe: Probe, version: str) -> list[SampleResponse]:
        probing = _Probing()
        jobs = probe_jobs(probe, version, [next(self._ids) for _ in probe.prompts])
        try:
            for job in jobs:
                self._probing[job.job_id] = probing
                self._sampler.start(job)
            while len(probing.answers) < len(jobs):
                await wait_for(probing.done)
                probing.done = Future()
        finally:
            for job in jobs:
                self._probing.pop(job.job_id, None)
                self._sampler.cancel(job.job_id)
        return [probing.answers[job.job_id] for job in jobs]

    @handler
    async def release_sampler(self, message: ReleaseSampler) -> None:
        client = self._clients.get(message.sampler_id)
        if client is None:
            return
        client.clients -= 1
        if client.clients == 0:
            del self._clients[message.sampler_id]
            self._drop_user(client.version)

    def _drop_user(self, name: str) -> None:
        version = self._versions.get(name)
        if version is None:
            return  # the base model
        version.users -= 1
        if version.users == 0:
            del self._versions[name]
            self._sampler.unload(name)

    # ---------------------------------------------------------------------------------- requests

    @handler
    async def start_sample(self, message: StartSample) -> None:
        ticket: Ticket = message.ticket
        with ticket.errors():
            job = self._job(ticket.request)
            self._sampler.start(job)
            self._tickets[job.job_id] = ticket
            self._job_ids[ticket] = job.job_id

    @handler
    async def cancel_sample(self, message: CancelSample) -> None:
        job_id = self._job_ids.pop(message.ticket, None)
        if job_id is not None:
            del self._tickets[job_id]
            self._sampler.cancel(job_id)
            message.ticket.promise.fail(
                RequestError(
                    "sample: expected somebody to wait for it; got its await cancelled or timed "
                    "out, so the sampling was given up. Ask again."
                )
            )

    @handler
    async def interrupt_sample(self, message: InterruptSample) -> None:
        job_id = self._job_ids.get(message.ticket)
        if job_id is not None:
            self._sampler.interrupt(job_id)

    def _finish(self, job_id: int, answer: SampleResponse | Exception) -> None:
        """Take the sampler's answer to a job."""
        probing = self._probing.pop(job_id, None)
        if probing is not None:
            if isinstance(answer, Exception):
                if not probing.done.done():
                    probing.done.set_exception(answer)
                return
            probing.answers[job_id] = answer
            if not probing.done.done():
                probing.done.set_result(None)
            return
        ticket = self._tickets.pop(job_id, None)
        if ticket is None:
            return
        del self._job_ids[ticket]
        if isinstance(answer, Exception):
            ticket.promise.fail(answer)
        else:
            ticket.promise.resolve(answer)

    def _job(self, request: Any) -> SampleJob:
        assert isinstance(request, Sample)
        client = self._clients.get(request.sampler_id)
        if client is None:
            raise UnknownNameError(
                f"sample: expected a sampler that is open; got {request.sampler_id!r}. Create a "
                "sampling client again."
            )
        params = request.sampling_params
        return SampleJob(
            job_id=next(self._ids),
            version=client.version,
            prompt=tuple(request.prompt.to_ints()),
            num_samples=request.num_samples,
            max_tokens=check_sample(request, self._vocab_size, self._sampler.context),
            seed=params.seed if params.seed is not None else secrets.randbits(63),
            is_seeded=params.seed is not None,
            stop=stop_rule(params.stop, self._eos),
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            topk_samples=request.topk_sample_logprobs,
            prompt_logprobs=request.prompt_logprobs,
            topk_prompt=request.topk_prompt_logprobs,
            prompt_last_n=request.prompt_logprobs_last_n,
        )
