"""How much a request computed, how fast, and what of the device's speed that used."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from tinker_rl.architectures import Architecture
from tinker_rl.engine.asks import Asks
from tinker_rl.engine.batching import MicroBatch
from tinker_rl.errors import UnsupportedError

__all__ = ["WorkMeter", "architecture_of", "known_peak_flops"]

_PEAK_TERAFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "RTX 4090": 165,
    "A10": 125,
    "L4": 121,
}
"""Dense bfloat16, 1e12 operations a second, by a part of the GPU's name; the first that fits.

Source: NVIDIA's data sheets.
"""


def known_peak_flops(device: torch.device) -> float | None:
    """Most floating-point operations a second of a GPU in bfloat16; None if it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((1e12 * peak for part, peak in _PEAK_TERAFLOPS.items() if part in name), None)


def architecture_of(model: PreTrainedModel) -> Architecture | None:
    """The dimensions of a model, if its arithmetic can be counted by them."""
    try:
        return Architecture.from_config(model.config)
    except UnsupportedError:
        return None


class WorkMeter:
    """Counts what one request computes.

    The seconds are those in which the device worked for it, without those that others had.
    """

    def __init__(self, architecture: Architecture | None, peak_flops: float | None) -> None:
        self._architecture = architecture
        self._peak_flops = peak_flops
        self._seconds = 0.0
        self._tokens = 0
        self._unique_tokens = 0
        self._flops = 0.0

    @contextmanager
    def working(self) -> Generator[None]:
        """Time what is done inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - started

    def count(self, batch: MicroBatch, asks: Asks, *, forward_only: bool) -> None:
        """Count a micro-batch.

        Operations are those that the mathematics needs with frozen base weights: two for each
        weight and token forward, two more backward for the token's gradient, none for the weight's.
        Adapters, and what is computed again to save memory, are not counted.
        """
        self._tokens += sum(len(place) for place in batch.places)
        self._unique_tokens += batch.computed_tokens
        if self._architecture is None:
            return
        size = self._architecture
        body = 2 * size.linear_weights * batch.computed_tokens
        width = size.num_layers * size.num_heads * size.head_dim
        attention = 4 * width * batch.attended_pairs
        unembed = 2 * size.unembed_weights
        self._flops += body + attention + unembed * len(asks.place_N)
        if not forward_only:
            self._flops += body + 2 * attention + unembed * asks.num_trained

    def metrics(self) -> dict[str, float]:
        """Figures of the request, named `name:reduction`."""
        seconds = max(self._seconds, 1e-9)
        metrics = {
            "tokens:sum": float(self._tokens),
            "unique_tokens:sum": float(self._unique_tokens),
            "tokens_per_second:mean": self._tokens / seconds,
        }
        if self._peak_flops and self._architecture is not None:
            metrics["mfu:mean"] = self._flops / seconds / self._peak_flops
        return metrics
