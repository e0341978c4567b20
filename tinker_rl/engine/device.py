"""One thread a device: everything that touches torch takes its turn there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


class DeviceThread:
    """Runs calls one after the other, in the order they came, in a thread of its own.

    First in, first out is what makes learner and sampler alternate: each submits its next call
    only when its last one returned. A call should be one micro-batch or one burst of decoding.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"tinker-{device}")

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Await `function(*args, **kwargs)` in the device's thread.

        A cancelled await drops a call that has not begun; one that has begun goes on to its end,
        and its result is dropped.
        """
        future = self._executor.submit(functools.partial(function, *args, **kwargs))
        try:
            return await wait_for(future)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Drop what has not begun, and wait for what has."""
        self._executor.shutdown(wait=True, cancel_futures=True)
