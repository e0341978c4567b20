"""An engine inside this process, in a thread and an event loop of its own."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import signal
import threading
import uuid
from collections import deque
from pathlib import Path
from typing import Any, TypeVar

import anyio
import msgspec
import torch

from tinker_rl.actors import ActorRef, ActorSystem
from tinker_rl.engine.checkpoints import Store, default_root
from tinker_rl.engine.device import DeviceThread, default_device
from tinker_rl.engine.learner import LearnerConfig
from tinker_rl.engine.samplers.choice import SamplerOption
from tinker_rl.engine.service import Cancel, Handle, Interrupt, ServiceActor
from tinker_rl.engine.ticket import Ticket, closed_error
from tinker_rl.errors import RequestError
from tinker_rl.futures import APIFuture, Promise, call_soon_in, current_loop
from tinker_rl.losses import CustomLoss
from tinker_rl.requests import Request, Sample

__all__ = ["EngineOptions", "LocalBackend"]

R = TypeVar("R")

_log = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of an engine in this process."""

    home: str | None = None
    """Folder of runs and checkpoints; None: TINKER_RL_HOME, or ~/.tinker_rl."""
    sampler: SamplerOption = "auto"
    """`vllm`, `embedded`, or the options of one of them. `auto`: vLLM where that is installed and
    the model is not `tiny`."""
    sync_tolerance: float | None = None
    """Greatest difference, in nats, of a probe's logprobs between learner and sampler at which
    published weights are taken for proved. None: 1e-3 in float32, 0.25 in half precision."""
    learner: LearnerConfig = LearnerConfig()
    threads: int | None = None
    """CPU threads of torch; None: as torch is set up."""


class LocalBackend:
    """Takes requests from any thread, and hands them to the actors in its own event loop.

    It ends by `close`, or by itself when the interpreter does; whatever it has not answered then
    fails with EngineClosedError.
    """

    def __init__(self, options: EngineOptions | None = None) -> None:
        options = options or EngineOptions()
        root = Path(options.home).expanduser() if options.home else default_root()
        self._store = Store(root)
        self._options = options
        self._losses: dict[str, CustomLoss] = {}
        # Re-entrant: a client that is garbage-collected submits from wherever that happens.
        self._lock = threading.RLock()
        self._inbox: deque[Handle | Cancel | Interrupt] = deque()
        self._open: dict[APIFuture[Any], Ticket] = {}
        self._closed = False
        self._loop: Any = None
        self._wake: anyio.Event | None = None
        self._scope: anyio.CancelScope | None = None
        self._failure: BaseException | None = None
        self._device: DeviceThread | None = None
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(started,), name="tinker-engine", daemon=True
        )
        self._thread.start()
        started.wait()
        atexit.register(self._end)

    # ---------------------------------------------------------------------- from any thread

    def submit(self, request: Request[R]) -> APIFuture[R]:
        """Queue a request; see `Backend.submit`."""
        promise: Promise[R] = Promise()
        ticket = Ticket(request, promise)
        future = promise.future
        # An abandoned sample is cancelled; an abandoned training request goes on: its order counts.
        future.on_abandon(functools.partial(self._post, Cancel(ticket)))
        with self._lock:
            if self._closed:
                promise.fail(self._closed_error(request))
                return future
            self._open[future] = ticket
        future.future().add_done_callback(lambda _: self._open.pop(future, None))
        self._post(Handle(ticket))
        return future

    def interrupt(self, future: APIFuture[Any]) -> None:
        """End a sample in flight with what it has; see `Backend.interrupt`."""
        ticket = self._open.get(future)
        if ticket is None and future.done():
            return
        if ticket is None or not isinstance(ticket.request, Sample):
            what = (
                "another future" if ticket is None else f"that of {type(ticket.request).__name__}"
            )
            raise RequestError(
                f"interrupt: expected the future of a sample in flight; got {what}. Pass on what "
                "`SamplingClient.sample` gave."
            )
        self._post(Interrupt(ticket))

    def _post(self, message: Handle | Cancel | Interrupt) -> None:
        self._inbox.append(message)
        wake = self._wake
        if wake is not None:
            call_soon_in(self._loop, self._notify)

    def add_loss(self, fn: CustomLoss) -> str:
        """Register a function of this process; see `Backend.add_loss`."""
        loss_id = uuid.uuid4().hex
        self._losses[loss_id] = fn
        return loss_id

    def remove_loss(self, loss_id: str) -> None:
        """Forget a function that `add_loss` registered."""
        self._losses.pop(loss_id, None)

    @property
    def closed(self) -> bool:
        """Whether it takes no requests any more."""
        return self._closed

    def close(self) -> None:
        """End the engine. Requests that it has not answered fail; again, it does nothing.

        Returns after five seconds at the latest: what torch is doing cannot be broken off.
        """
        with self._lock:
            first = not self._closed
            self._closed = True
        scope = self._scope
        if first and scope is not None:
            call_soon_in(self._loop, scope.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_SECONDS)
        if self._device is None or self._device.join(0):
            atexit.unregister(self._end)

    def _end(self) -> None:
        """Close as the interpreter ends, which must not find a thread in torch: it would abort.

        So this waits for one micro-batch, if it must. Who interrupts the wait does not want to.
        """
        try:
            self.close()
            if self._device is not None and not self._device.join(0):
                _log.warning("waiting for torch to end what it does; Ctrl-C ends it at once")
                self._device.join()
        except KeyboardInterrupt:
            os._exit(128 + signal.SIGINT)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a client of an in-process engine cannot be pickled: the engine lives in this process. "
            "Create the client where it is used, or run a server and pass base_url."
        )

    # ------------------------------------------------------------------- in the engine's thread

    def _serve(self, started: threading.Event) -> None:
        try:
            anyio.run(self._main, started, backend="trio")
        except BaseException as error:  # the thread ends here: whoever waits must learn why
            self._failure = error
        finally:
            with self._lock:
                self._closed = True
            started.set()
            for ticket in list(self._open.values()):
                ticket.promise.fail(self._closed_error(ticket.request))

    async def _main(self, started: threading.Event) -> None:
        if self._options.threads is not None:
            torch.set_num_threads(self._options.threads)
        device = self._device = DeviceThread(default_device())
        try:
            with anyio.CancelScope() as self._scope:
                async with ActorSystem() as system:
                    service = await system.spawn(
                        ServiceActor,
                        self._store,
                        device,
                        self._losses,
                        self._options.sampler,
                        self._options.learner,
                        self._options.sync_tolerance,
                        name="service",
                    )
                    self._loop = current_loop()
                    self._wake = anyio.Event()
                    started.set()
                    await self._pump(service)
        finally:
            device.close()
            device.join(_CLOSE_SECONDS)

    def _notify(self) -> None:
        assert self._wake is not None
        self._wake.set()

    async def _pump(self, service: ActorRef[ServiceActor]) -> None:
        while True:
            while self._inbox:
                await service.tell(self._inbox.popleft())
            self._wake = anyio.Event()
            if not self._inbox:  # a message may have come since; its wake-up hit the old event
                await self._wake.wait()

    def _closed_error(self, request: Request[Any]) -> Exception:
        error = closed_error(type(request).__name__)
        error.__cause__ = self._failure
        return error
