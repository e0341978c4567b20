"""What is around a cancelled run: trio's order of tasks, and loggers that keep still."""

from __future__ import annotations

import importlib
import logging
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

__all__ = ["fixed_order", "quiet"]


@contextmanager
def fixed_order(seed: int) -> Generator[None]:
    """Let trio choose the order of its tasks by the seed, as Hypothesis does; it has no option."""
    scheduler: Any = importlib.import_module("trio._core._run")
    rng = getattr(scheduler, "_r", None)
    if not isinstance(rng, random.Random):
        yield
        return
    state, sorts = rng.getstate(), getattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", False)
    rng.seed(seed)
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    try:
        yield
    finally:
        rng.setstate(state)
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = sorts


@contextmanager
def quiet() -> Generator[None]:
    """What goes wrong in a clean-up is a finding; it need not be logged as well.

    Neither need be what asyncio logs of a subprocess that it killed, cancelled while it started it.
    """
    logger = logging.getLogger("tinker_rl.rl.builder_calls")
    was_disabled, logger.disabled = logger.disabled, True
    of_asyncio = logging.getLogger("asyncio")
    of_asyncio.addFilter(_is_not_of_a_killed_process)
    try:
        yield
    finally:
        logger.disabled = was_disabled
        of_asyncio.removeFilter(_is_not_of_a_killed_process)


def _is_not_of_a_killed_process(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(("Unknown child process", "Loop %r that handles pid"))
