"""The random numbers that are everybody's: set before each call, and put back at the end."""

from __future__ import annotations

import importlib
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinker_rl.policies.seeds import stable_seed

__all__ = ["kept_global_rngs", "seed_global_rngs", "seed_scheduler"]


@contextmanager
def kept_global_rngs() -> Generator[None]:
    """Leave the generators of `random` and numpy as they were found."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed_global_rngs(*parts: int) -> None:
    """Seed the generators of `random` and numpy."""
    seed = stable_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def seed_scheduler(seed: int) -> None:
    """Make trio, where it runs, order its tasks alike each time; it shuffles them otherwise."""
    module: Any = importlib.import_module("trio._core._run")
    rng = getattr(module, "_r", None)
    if isinstance(rng, random.Random):
        rng.seed(seed)
