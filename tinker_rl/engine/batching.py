"""Cuts the datums of a request into micro-batches. Pure."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["plan_microbatches"]


def plan_microbatches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of the datums of each micro-batch, rows of like length together.

    A micro-batch of B rows, the longest of T tokens, takes B * T of the budget; a single row that
    is longer than the budget makes a micro-batch of its own.

    Args:
        lengths: Tokens of each datum, 1 or more.
        token_budget: Most tokens of a micro-batch, padding included.
    Returns:
        Every index exactly once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        # Longest first: the first row of a batch is its width.
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= token_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
