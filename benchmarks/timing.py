"""Times two ways of doing the same work against each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, up to the end of what it started on a GPU."""
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(
    ours: Callable[[], object],
    bare: Callable[[], object],
    rounds: int,
    *,
    warm_up: bool = True,
) -> tuple[list[float], list[float]]:
    """Seconds of each, one after the other; after a warm-up of both, unless they had theirs."""
    if warm_up:
        ours(), bare()
    pairs = [(seconds(ours), seconds(bare)) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def ratio(ours: list[float], bare: list[float]) -> float:
    """How much faster ours is: the median of the rounds' ratios."""
    return statistics.median(b / o for o, b in zip(ours, bare, strict=True))
