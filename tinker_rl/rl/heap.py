"""Keeps the garbage collector from what start-up left behind."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["frozen_heap"]


@contextmanager
def frozen_heap() -> Generator[None]:
    """Inside, what there is now is not looked at by the garbage collector.

    torch and transformers leave some 400,000 objects, all of which a full collection walks through;
    with thousands of environments in flight that is half of what a step of one costs. After the
    block they are looked at again. Where somebody has frozen the heap before, it is theirs: nothing
    is done.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
