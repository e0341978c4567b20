"""The actor that owns the learner of one base model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from tinker_rl.actors import Actor, ActorRef, Message, handler
from tinker_rl.engine import adapter_files
from tinker_rl.engine.checkpoints import Manifest, RunRecord, Store
from tinker_rl.engine.cycles import ClockCycles
from tinker_rl.engine.device import DeviceThread
from tinker_rl.engine.learner import Learner, Steps
from tinker_rl.engine.losses import CUSTOM
from tinker_rl.engine.paths import CheckpointPath, Kind, check_name
from tinker_rl.engine.sampling import OpenSampler, SamplerActor
from tinker_rl.engine.sentinel import Snapshot, take_snapshot
from tinker_rl.engine.ticket import Ticket
from tinker_rl.errors import CheckpointError, UnknownNameError, choices
from tinker_rl.futures import Promise
from tinker_rl.losses import CustomLoss
from tinker_rl.requests import (
    CreateModel,
    CreateModelFromState,
    ForwardBackward,
    GetInfo,
    LoadState,
    OptimStep,
    PublishWeights,
    SamplerInfo,
    SaveState,
    SaveWeightsForSampler,
    UnloadModel,
    WeightSync,
)
from tinker_rl.types import (
    ForwardBackwardOutput,
    GetInfoResponse,
    LoadWeightsResponse,
    LoraConfig,
    ModelData,
    OptimStepResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)

__all__ = ["Enqueue", "TrainerActor"]

_LATER = object()
"""In place of a result that a task of its own will give."""


class Enqueue(Message[None], frozen=True):
    """Put a request into a model's mailbox. Carries a promise, so it stays in this process."""

    model_id: str
    ticket: Any
    sampler_id: str | None = None
    """For PublishWeights: the sampler to open."""


class TrainerActor(Actor):
    """Carries out the requests of all models over one base model, in clock cycles.

    The handler only queues; one task beside it works, and torch runs in the device's thread.
    """

    def __init__(
        self,
        learner: Learner,
        device: DeviceThread,
        store: Store,
        sampler: ActorRef[SamplerActor] | None,
        losses: dict[str, CustomLoss],
        architecture: str,
        probe_prompts: Sequence[Sequence[int]],
    ) -> None:
        """
        Args:
            probe_prompts: Texts that each published version is proved by.
        """
        self._learner = learner
        self._device = device
        self._store = store
        self._sampler = sampler
        self._losses = losses
        self._architecture = architecture
        self._probe_prompts = probe_prompts
        self._cycles: ClockCycles[Enqueue] = ClockCycles(joined=_is_optim_step)
        self._work = anyio.Event()
        self._runs: dict[str, RunRecord] = {}

    async def on_start(self) -> None:
        self.start_soon(self._run)

    @handler
    async def enqueue(self, message: Enqueue) -> None:
        self._cycles.put(message.model_id, message)
        self._work.set()

    async def _run(self) -> None:
        while True:
            message = self._cycles.next()
            if message is None:
                self._work = anyio.Event()
                await self._work.wait()
                continue
            with message.ticket.errors():
                result = await self._carry_out(message)
                if result is not _LATER:
                    message.ticket.promise.resolve(result)

    async def _carry_out(self, message: Enqueue) -> Any:
        ticket: Ticket = message.ticket
        model_id, request = message.model_id, ticket.request
        match request:
            case CreateModel():
                return await self._create(
                    model_id, request.lora_config, request.base_model, request.user_metadata
                )
            case CreateModelFromState():
                return await self._create_from_state(model_id, request)
            case _:
                self._known(model_id)
        match request:
            case GetInfo():
                return self._info(model_id)
            case ForwardBackward():
                return await self._forward_backward(request)
            case OptimStep():
                done = await self._device.run(
                    self._learner.optim_step, model_id, request.adam_params
                )
                return OptimStepResponse(metrics=self._with_cycle(done.metrics or {}))
            case SaveState():
                return await self._save_state(request)
            case LoadState():
                await self._load(model_id, request.path, optimizer=request.optimizer)
                return LoadWeightsResponse(path=request.path)
            case SaveWeightsForSampler():
                return await self._save_for_sampler(request)
            case PublishWeights():
                await self._publish(ticket, model_id, message.sampler_id)
                return _LATER
            case UnloadModel():
                await self._device.run(self._learner.remove, model_id)
                del self._runs[model_id]
                return None
            case _:
                raise AssertionError(f"the service sent a {type(request).__name__} to a trainer")

    def _known(self, model_id: str) -> None:
        if model_id not in self._runs:
            raise UnknownNameError(
                f"model_id: expected a model that is loaded; got {model_id!r}."
                f"{choices(model_id, self._runs)}"
            )

    def _with_cycle(self, metrics: dict[str, float]) -> dict[str, float]:
        return {**metrics, "clock_cycle:unique": float(self._cycles.cycle)}

    # ----------------------------------------------------------------------------------- models

    async def _create(
        self,
        model_id: str,
        config: LoraConfig,
        base_model: str,
        user_metadata: dict[str, str] | None,
    ) -> GetInfoResponse:
        adapter = await self._device.run(self._learner.create, model_id, config)
        now = datetime.now(UTC)
        record = RunRecord(
            run_id=model_id,
            base_model=base_model,
            lora_config=adapter.config,
            created=now,
            last_request=now,
            user_metadata=user_metadata,
        )
        try:
            await anyio.to_thread.run_sync(self._store.save_run, record)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._device.run(self._learner.remove, model_id)
            raise
        self._runs[model_id] = record
        return self._info(model_id)

    async def _create_from_state(
        self, model_id: str, request: CreateModelFromState
    ) -> GetInfoResponse:
        path, manifest = await anyio.to_thread.run_sync(self._store.find, request.path)
        info = await self._create(
            model_id, manifest.lora_config, manifest.base_model, request.user_metadata
        )
        try:
            await self._load(model_id, str(path), optimizer=request.optimizer)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._device.run(self._learner.remove, model_id)
                await anyio.to_thread.run_sync(self._store.delete_run, model_id)
            del self._runs[model_id]
            raise
        return info

    def _info(self, model_id: str) -> GetInfoResponse:
        record = self._runs[model_id]
        return GetInfoResponse(
            model_id=model_id,
            model_data=ModelData(
                arch=self._architecture,
                model_name=record.base_model,
                tokenizer_id=record.base_model,
            ),
            lora_rank=record.lora_config.rank,
            model_name=record.base_model,
        )

    # --------------------------------------------------------------------------------- training

    async def _forward_backward(self, request: ForwardBackward) -> ForwardBackwardOutput:
        custom = None
        if request.loss_fn == CUSTOM:
            loss_id = str((request.loss_fn_config or {}).get("loss_id"))
            custom = self._losses.get(loss_id)
            if custom is None:
                raise UnknownNameError(
                    f"loss_fn 'custom': expected the id of a registered loss; got {loss_id!r}. "
                    "Use forward_backward_custom."
                )
        steps = self._learner.forward_backward(
            request.model_id,
            request.data,
            request.loss_fn,
            request.loss_fn_config,
            forward_only=request.forward_only,
            custom=custom,
        )
        output = None
        try:
            while output is None:
                output = await self._device.run(_advance, steps)
        except BaseException:  # only cancelled are they unfinished
            with anyio.CancelScope(shield=True):
                await self._device.run(steps.close)
            raise
        return msgspec.structs.replace(output, metrics=self._with_cycle(output.metrics))

    # ------------------------------------------------------------------------------ checkpoints

    async def _write(
        self,
        model_id: str,
        kind: Kind,
        name: str,
        fill: Callable[[Path], None],
        *,
        overwrite: bool,
        ttl_seconds: int | None,
        user_metadata: dict[str, str] | None,
    ) -> str:
        adapter = self._learner.adapter(model_id)
        record = msgspec.structs.replace(self._runs[model_id], last_request=datetime.now(UTC))
        manifest = Manifest(
            run_id=model_id,
            kind=kind,
            base_model=record.base_model,
            lora_config=adapter.config,
            steps=adapter.steps,
            created=record.last_request,
        )
        path = CheckpointPath(model_id, kind, check_name(name))

        def write() -> None:
            self._store.write(
                path,
                manifest,
                fill,
                overwrite=overwrite,
                ttl_seconds=ttl_seconds,
                user_metadata=user_metadata,
            )
            self._store.save_run(record)

        await anyio.to_thread.run_sync(write)
        self._runs[model_id] = record
        return str(path)

    async def _save_state(self, request: SaveState) -> SaveWeightsResponse:
        adapter = self._learner.adapter(request.model_id)
        weights = await self._device.run(self._learner.weights, request.model_id)
        optimizer = await self._device.run(adapter_files.optimizer_state, adapter)

        def fill(folder: Path) -> None:
            adapter_files.write_adapter(
                folder, weights, adapter.peft_config, self._learner.base_model
            )
            adapter_files.write_optimizer(folder, optimizer)

        path = await self._write(
            request.model_id,
            "weights",
            request.name,
            fill,
            overwrite=request.overwrite,
            ttl_seconds=request.ttl_seconds,
            user_metadata=request.user_metadata,
        )
        return SaveWeightsResponse(path=path)

    async def _save_for_sampler(
        self, request: SaveWeightsForSampler
    ) -> SaveWeightsForSamplerResponse:
        adapter = self._learner.adapter(request.model_id)
        weights = await self._device.run(self._learner.weights, request.model_id)

        def fill(folder: Path) -> None:
            adapter_files.write_adapter(
                folder, weights, adapter.peft_config, self._learner.base_model
            )

        path = await self._write(
            request.model_id,
            "sampler_weights",
            request.name,
            fill,
            overwrite=False,
            ttl_seconds=request.ttl_seconds,
            user_metadata=request.user_metadata,
        )
        return SaveWeightsForSamplerResponse(path=path)

    async def _load(self, model_id: str, path: str, *, optimizer: bool) -> None:
        parsed, _ = await anyio.to_thread.run_sync(self._store.find, path)
        folder, manifest = await anyio.to_thread.run_sync(self._store.open, parsed)
        base_model = self._runs[model_id].base_model
        if manifest.base_model != base_model:
            raise CheckpointError(
                f"load_state: expected a checkpoint of {base_model!r}; got one of "
                f"{manifest.base_model!r} ({path}). Create a client from the checkpoint instead."
            )
        own, alpha = self._learner.adapter(model_id).config, manifest.lora_config.lora_alpha
        if alpha != own.lora_alpha:
            raise CheckpointError(
                f"load_state: expected an adapter with lora_alpha {own.lora_alpha:g}; got one with "
                f"{alpha:g} ({path}), which would act otherwise here. Create a client from the "
                "checkpoint instead."
            )

        def load() -> None:
            adapter_files.load_checkpoint(
                self._learner, model_id, folder, optimizer=optimizer, steps=manifest.steps
            )

        await self._device.run(load)

    # ----------------------------------------------------------------------------------- sampler

    async def _publish(self, ticket: Ticket, model_id: str, sampler_id: str | None) -> None:
        """Take the weights as they are, and what they make of the probe; then go on training."""
        assert sampler_id is not None
        snapshot = await self._device.run(
            take_snapshot, self._learner, model_id, self._probe_prompts
        )
        self.start_soon(self._open_sampler, ticket, sampler_id, snapshot)

    async def _open_sampler(self, ticket: Ticket, sampler_id: str, snapshot: Snapshot) -> None:
        assert self._sampler is not None
        with ticket.errors():
            opened: Promise[WeightSync] = Promise()
            request = OpenSampler(sampler_id, snapshot.weights, opened, snapshot.probe)
            await self._sampler.tell(request)
            seconds = snapshot.score_seconds
            sync = msgspec.structs.replace(await opened.future, score_seconds=seconds)
            base_model = self._learner.base_model
            ticket.promise.resolve(
                SamplerInfo(sampler_id=sampler_id, base_model=base_model, weight_sync=sync)
            )


def _is_optim_step(message: Enqueue) -> bool:
    """It shares the clock cycle of the forward_backward before it."""
    return isinstance(message.ticket.request, OptimStep)


def _advance(steps: Steps) -> ForwardBackwardOutput | None:
    """Do one micro-batch; the result when it was the last, which StopIteration cannot carry
    through a future."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    return None
