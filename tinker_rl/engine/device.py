"""One thread a device: everything that touches torch takes its turn there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import torch

from tinker_rl.futures import wait_for

__all__ = ["DeviceThread", "default_device", "default_dtype"]

T = TypeVar("T")


def default_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU, float32 on a CPU."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


class _Call:
    """A function that waits for its turn, and the future of its result."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: Future[Any] = Future()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.function())
        except BaseException as error:
            self.future.set_exception(error)


class DeviceThread:
    """Runs calls one after the other, in the order they came, in a thread of its own.

    First in, first out is what makes learner and sampler alternate: each submits its next call
    only when its last one returned. A call should be one micro-batch or one burst of decoding.
    The thread is a daemon, since the standard library's pools keep the interpreter from ending.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=f"tinker-{device}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            del call  # an idle thread must not keep the last result alive

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Await `function(*args, **kwargs)` in the device's thread.

        A cancelled await drops a call that has not begun; one that has begun goes on to its end,
        and its result is dropped.
        """
        call = _Call(functools.partial(function, *args, **kwargs))
        self._calls.put(call)
        try:
            return await wait_for(call.future)
        except BaseException:
            call.future.cancel()
            raise

    def close(self) -> None:
        """Let the calls that wait end, then the thread."""
        self._calls.put(None)

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the end of the thread; False if the time was over first."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()
