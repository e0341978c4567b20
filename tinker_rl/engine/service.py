"""The actor that every request reaches first: it loads base models and sends requests on."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from tinker_rl import requests as ask
from tinker_rl.actors import Actor, ActorRef, Message, handler
from tinker_rl.engine import adapter_files
from tinker_rl.engine.base_model import context_length, load_base_model
from tinker_rl.engine.checkpoints import RunRecord, Store
from tinker_rl.engine.content_hash import content_hash
from tinker_rl.engine.device import DeviceThread, default_dtype
from tinker_rl.engine.learner import Learner, LearnerConfig
from tinker_rl.engine.lora import lora_scale
from tinker_rl.engine.paths import parse_path
from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.choice import SamplerOption, make_sampler, sampler_config
from tinker_rl.engine.sampling import (
    CancelSample,
    InterruptSample,
    OpenSampler,
    ReleaseSampler,
    SamplerActor,
    StartSample,
)
from tinker_rl.engine.sentinel import probe_prompts, probe_tolerance
from tinker_rl.engine.ticket import Ticket
from tinker_rl.engine.trainer import Enqueue, TrainerActor
from tinker_rl.errors import ConfigError, RequestError, UnknownNameError, UnsupportedError
from tinker_rl.futures import Promise
from tinker_rl.lineup import model_path, supported_models
from tinker_rl.losses import CustomLoss
from tinker_rl.tokenizers import get_tokenizer
from tinker_rl.types import (
    Checkpoint,
    CheckpointsListResponse,
    Cursor,
    GetServerCapabilitiesResponse,
    TrainingRun,
    TrainingRunsResponse,
    WeightsInfoResponse,
)

__all__ = ["Cancel", "Handle", "Interrupt", "ServiceActor"]

T = TypeVar("T")

_INFLIGHT = ":sample:inflight"
"""End of the id of the one sampler of a model that follows its weights; it has many clients."""


class Handle(Message[None], frozen=True):
    """A request and its promise; it stays in this process."""

    ticket: Any


class Cancel(Message[None], frozen=True):
    """Nobody waits for the ticket's result any more."""

    ticket: Any


class Interrupt(Message[None], frozen=True):
    """The ticket's sample is to end now, with what it has."""

    ticket: Any


@dataclass(eq=False)
class _Host:
    """A base model that is loaded, or is being loaded."""

    ready: anyio.Event
    trainer: ActorRef[TrainerActor] | None = None
    sampler: ActorRef[SamplerActor] | None = None
    no_sampler: UnsupportedError | None = None
    error: Exception | None = None


class ServiceActor(Actor):
    """Routes requests by model and by sampler, in the order they came."""

    def __init__(
        self,
        store: Store,
        device: DeviceThread,
        losses: dict[str, CustomLoss],
        sampler: SamplerOption,
        learner_config: LearnerConfig,
        sync_tolerance: float | None,
    ) -> None:
        self._store = store
        self._device = device
        self._losses = losses
        self._sampler_option: SamplerOption = sampler
        self._sync_tolerance = sync_tolerance
        self._learner_config = learner_config
        self._session = uuid.uuid4().hex[:12]
        self._model_ids = itertools.count()
        self._sampler_ids = itertools.count()
        self._hosts: dict[str, _Host] = {}
        self._models: dict[str, _Host] = {}
        self._samplers: dict[str, _Host] = {}

    @handler
    async def handle(self, message: Handle) -> None:
        ticket: Ticket = message.ticket
        request = ticket.request
        match request:
            case ask.PublishWeights():
                await self._publish(ticket, request)
            case ask.ModelRequest() | ask.GetInfo():
                await self._to_model(ticket, request.model_id)
            case ask.Sample():
                with ticket.errors():
                    host = self._sampler_host(request.sampler_id)
                    await _sampler(host).tell(StartSample(ticket))
            case ask.ReleaseSampler():
                with ticket.errors():
                    host = self._samplers.get(request.sampler_id)
                    if host is not None:
                        await _sampler(host).tell(ReleaseSampler(request.sampler_id))
                        if not request.sampler_id.endswith(_INFLIGHT):  # it had one client
                            del self._samplers[request.sampler_id]
                    ticket.promise.resolve(None)
            case _:
                self.start_soon(self._answer, ticket)

    @handler
    async def cancel(self, message: Cancel) -> None:
        if isinstance(message.ticket.request, ask.Sample):
            await self._tell_samplers(CancelSample(message.ticket))
        # a training request goes on: its place in the order counts

    @handler
    async def interrupt(self, message: Interrupt) -> None:
        await self._tell_samplers(InterruptSample(message.ticket))

    async def _tell_samplers(self, message: CancelSample | InterruptSample) -> None:
        """Tell all of them: the one of a ticket may have been released meanwhile."""
        for host in self._hosts.values():
            if host.sampler is not None:
                await host.sampler.tell(message)

    async def _answer(self, ticket: Ticket) -> None:
        """Requests that have no place in a model's order."""
        with ticket.errors():
            ticket.promise.resolve(await self._result(ticket))

    async def _result(self, ticket: Ticket) -> Any:
        match ticket.request:
            case ask.CreateModel() as request:
                return await self._create_model(ticket, request.base_model)
            case ask.CreateModelFromState() as request:
                _, manifest = await _io(self._store.find, request.path)
                if request.base_model not in (None, manifest.base_model):
                    raise ConfigError(
                        f"create_training_client_from_state: expected base_model "
                        f"{manifest.base_model!r}, the checkpoint's; got {request.base_model!r}. "
                        "Leave it out."
                    )
                return await self._create_model(ticket, manifest.base_model)
            case ask.CreateSampler() as request:
                return await self._create_sampler(request)
            case request:
                return await _io(self._stored, request)

    # -------------------------------------------------------------------------------- base models

    async def _host(self, base_model: str) -> _Host:
        """The loaded base model; the first to ask loads it, others wait."""
        path = await _io(model_path, base_model)  # it may ask the network
        host = self._hosts.get(path)
        if host is None:
            host = self._hosts[path] = _Host(anyio.Event())
            try:
                await self._load(base_model, host)
            except Exception as error:
                host.error = error
                del self._hosts[path]
                raise
            finally:
                host.ready.set()
        await host.ready.wait()
        if host.error is not None:
            raise host.error
        return host

    async def _load(self, base_model: str, host: _Host) -> None:
        device = self._device.device
        config = sampler_config(self._sampler_option, base_model)
        tokenizer = await _io(get_tokenizer, base_model)
        model = await self._device.run(load_base_model, base_model, device, default_dtype(device))
        context = context_length(base_model, model)
        make = None
        try:
            make = await self._device.run(
                make_sampler, config, base_model, model, tokenizer, context, self._device
            )
        except UnsupportedError as error:
            host.no_sampler = error
        learner = await self._device.run(Learner, model, base_model, context, self._learner_config)
        if make is not None:
            tolerance = self._sync_tolerance or probe_tolerance(model.dtype)
            eos = _eos_ids(model, tokenizer)
            host.sampler = await self.spawn(SamplerActor, make, learner.vocab_size, eos, tolerance)
        host.trainer = await self.spawn(
            TrainerActor,
            learner,
            self._device,
            self._store,
            host.sampler,
            self._losses,
            type(model).__name__,
            probe_prompts(tokenizer.encode, context),
        )

    # ------------------------------------------------------------------------------------- models

    async def _create_model(self, ticket: Ticket, base_model: str) -> Any:
        host = await self._host(base_model)
        assert host.trainer is not None
        model_id = f"{self._session}:train:{next(self._model_ids)}"
        self._models[model_id] = host
        inner = Ticket(ticket.request, type(ticket.promise)())
        await host.trainer.tell(Enqueue(model_id, inner))
        try:
            return await inner.promise.future
        except Exception:
            del self._models[model_id]
            raise

    async def _to_model(self, ticket: Ticket, model_id: str, sampler_id: str | None = None) -> None:
        with ticket.errors():
            host = self._models.get(model_id)
            if host is None or host.trainer is None:
                raise UnknownNameError(
                    f"model_id: expected a training model of this engine; got {model_id!r}. Create "
                    "one with create_lora_training_client."
                )
            await host.trainer.tell(Enqueue(model_id, ticket, sampler_id))

    async def _publish(self, ticket: Ticket, request: ask.PublishWeights) -> None:
        with ticket.errors():
            host = self._models.get(request.model_id)
            if host is not None:
                _sampler(host)
        if ticket.promise.settled:
            return
        inflight = request.kind == "inflight"
        number = _INFLIGHT if inflight else f":sample:{next(self._sampler_ids)}"
        sampler_id = f"{request.model_id}{number}"
        if host is not None:
            self._samplers[sampler_id] = host
        await self._to_model(ticket, request.model_id, sampler_id)

    # ----------------------------------------------------------------------------------- samplers

    def _sampler_host(self, sampler_id: str) -> _Host:
        host = self._samplers.get(sampler_id)
        if host is None:
            raise UnknownNameError(
                f"sample: expected a sampler of this engine; got {sampler_id!r}. Create a sampling "
                "client again."
            )
        return host

    async def _create_sampler(self, request: ask.CreateSampler) -> ask.SamplerInfo:
        weights = None
        base_model = request.base_model
        if request.model_path is not None:
            path = parse_path(request.model_path)
            folder, manifest = await _io(self._store.open, path)
            if base_model not in (None, manifest.base_model):
                raise ConfigError(
                    f"create_sampling_client: expected base_model {manifest.base_model!r}, the "
                    f"checkpoint's; got {base_model!r}. Leave it out."
                )
            base_model = manifest.base_model
            tensors = await _io(adapter_files.read_adapter, folder)
            scale = lora_scale(manifest.lora_config)
            weights = AdapterWeights(tensors, scale, content_hash(tensors))
        if base_model is None:
            raise ConfigError(
                "create_sampling_client: expected model_path or base_model; got neither."
            )
        host = await self._host(base_model)
        sampler_id = f"{self._session}:sample:{next(self._sampler_ids)}"
        opened: Promise[ask.WeightSync | None] = Promise()
        await _sampler(host).tell(OpenSampler(sampler_id, weights, opened))
        sync = await opened.future
        self._samplers[sampler_id] = host
        return ask.SamplerInfo(
            sampler_id=sampler_id,
            base_model=base_model,
            model_path=request.model_path,
            weight_sync=sync,
        )

    # -------------------------------------------------------------------------- runs, checkpoints

    def _stored(self, request: ask.Request[Any]) -> Any:
        """What the store alone can answer; runs in a worker thread."""
        store = self._store
        match request:
            case ask.GetServerCapabilities():
                return GetServerCapabilitiesResponse(supported_models=supported_models())
            case ask.ListTrainingRuns():
                page, cursor = _page(store.runs(), request.limit, request.offset)
                return TrainingRunsResponse(
                    training_runs=[self._describe(record) for record in page], cursor=cursor
                )
            case ask.GetTrainingRun():
                return self._describe(store.run(request.training_run_id))
            case ask.ListCheckpoints():
                checkpoints = store.checkpoints(request.training_run_id)
                if request.limit is None:
                    return CheckpointsListResponse(checkpoints=checkpoints)
                page, cursor = _page(checkpoints, request.limit, request.offset)
                return CheckpointsListResponse(checkpoints=page, cursor=cursor)
            case ask.DeleteCheckpoint():
                return store.delete(parse_path(request.path))
            case ask.SetCheckpointTtl():
                return store.set_ttl(parse_path(request.path), request.ttl_seconds)
            case ask.SetCheckpointPublic():
                return store.set_public(parse_path(request.path), request.public)
            case ask.CopyWeights():
                run_id = f"{self._session}:train:{next(self._model_ids)}"
                return str(store.copy(parse_path(request.path), run_id, request.ttl_seconds))
            case ask.GetWeightsInfo():
                _, manifest = store.find(request.path)
                config = manifest.lora_config
                return WeightsInfoResponse(
                    base_model=manifest.base_model,
                    lora_rank=config.rank,
                    train_unembed=config.train_unembed,
                    train_mlp=config.train_mlp,
                    train_attn=config.train_attn,
                )
            case _:
                raise RequestError(f"engine: it has no {type(request).__name__}.")

    def _describe(self, record: RunRecord) -> TrainingRun:
        checkpoints = self._store.checkpoints(record.run_id)

        def last(kind: str) -> Checkpoint | None:
            return next((c for c in reversed(checkpoints) if c.checkpoint_type == kind), None)

        return TrainingRun(
            training_run_id=record.run_id,
            base_model=record.base_model,
            model_owner="local",
            is_lora=True,
            last_request_time=record.last_request,
            lora_rank=record.lora_config.rank,
            last_checkpoint=last("training"),
            last_sampler_checkpoint=last("sampler"),
            user_metadata=record.user_metadata,
        )


def _sampler(host: _Host) -> ActorRef[SamplerActor]:
    if host.sampler is None:
        raise host.no_sampler or UnsupportedError("sample: this base model has no sampler.")
    return host.sampler


def _page(items: list[T], limit: int, offset: int) -> tuple[list[T], Cursor]:
    for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
        if value < least:
            raise RequestError(f"{name}: expected {least} or more; got {value}.")
    cursor = Cursor(offset=offset, limit=limit, total_count=len(items))
    return items[offset : offset + limit], cursor


def _eos_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every end-of-sequence token that the model's generation settings or tokenizer name."""
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    ids = list(named) if isinstance(named, list) else [named]
    return sorted({i for i in (*ids, tokenizer.eos_token_id) if i is not None})


async def _io(function: Callable[..., Any], *args: Any) -> Any:
    """Run blocking work that touches files and no device."""
    return await anyio.to_thread.run_sync(function, *args)
