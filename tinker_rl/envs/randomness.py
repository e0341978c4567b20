"""Each episode's own random numbers, the same whenever and wherever it is played."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from tinker_rl.errors import RequestError

__all__ = ["current_rng", "rng_or_none", "seeded_rng"]

_rng: ContextVar[random.Random | None] = ContextVar("tinker_rl_env_rng", default=None)


def current_rng() -> random.Random:
    """The random generator of the episode that this code runs in.

    It is seeded from the run, the group, the member and the attempt, so that an episode can be
    played again. Threads that anyio starts and tasks that the environment starts share it.

    Raises:
        RequestError: if no episode is being played here.
    """
    rng = _rng.get()
    if rng is None:
        raise RequestError(
            "current_rng: expected to be called inside an episode, from an environment; got a call "
            "outside. Use `with seeded_rng(0): ...` to play an environment by hand."
        )
    return rng


def rng_or_none() -> random.Random | None:
    """The random generator of the episode; None where none is being played."""
    return _rng.get()


@contextmanager
def seeded_rng(rng: random.Random | int) -> Generator[random.Random]:
    """Play an episode with this generator: inside, `current_rng()` gives it.

    Args:
        rng: A generator, or the seed of a new one.
    """
    rng = random.Random(rng) if isinstance(rng, int) else rng
    token = _rng.set(rng)
    try:
        yield rng
    finally:
        _rng.reset(token)
