"""Sequences that begin alike, as a tree that holds each shared token once. Pure.

The tokens of a tree stand in one row, depth first: a sequence's tokens come behind those it shares
with the sequence before it. So the descendants of a token follow it without a gap, and everything
between two branchings (a `Segment`) is a slice of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["IntArray", "PrefixTree", "Segment", "build_tree", "plan_trees", "shared_lengths"]

IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """A slice of the row in which every token is the child of the one before it."""

    start: int
    stop: int
    ancestors: tuple[int, ...]
    """Segments before it on the path from the root, the root first."""

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.stop - self.start


@dataclass(frozen=True)
class PrefixTree:
    """A forest of token sequences in one row of U tokens."""

    token_U: IntArray
    """Token ids, int64."""
    position_U: IntArray
    """Depth of each token: its position in every sequence it belongs to."""
    paths: tuple[IntArray, ...]
    """For each sequence, where its tokens stand in the row."""
    segments: tuple[Segment, ...]
    """In the order of the row, which they cover."""


def _sorted(sequences: Sequence[IntArray]) -> list[int]:
    # Big-endian bytes of numbers that are not negative sort as the numbers do.
    keys = [sequence.astype(">u4").tobytes() for sequence in sequences]
    return sorted(range(len(keys)), key=lambda index: (keys[index], index))


def shared_lengths(sequences: Sequence[IntArray]) -> IntArray:
    """How many first tokens each sequence has in common with the one before it; 0 for the first."""
    shared = np.zeros(len(sequences), np.int64)
    for index in range(1, len(sequences)):
        one, other = sequences[index - 1], sequences[index]
        length = min(len(one), len(other))
        differs = np.flatnonzero(one[:length] != other[:length])
        shared[index] = differs[0] if differs.size else length
    return shared


def plan_trees(sequences: Sequence[IntArray], token_budget: int) -> list[list[int]]:
    """Share sequences out to trees of at most `token_budget` tokens; what begins alike together.

    Args:
        sequences: Token ids, 0 or more and below 2^32, int64, shape [T] with T >= 1 each.
        token_budget: Most tokens of a tree; one sequence that is longer makes a tree of its own.
    Returns:
        Indices of the sequences of each tree, every one once, in the order that `build_tree` needs.
    """
    order = _sorted(sequences)
    shared = shared_lengths([sequences[index] for index in order])
    trees: list[list[int]] = []
    room = 0
    for index, common in zip(order, shared.tolist(), strict=True):
        length = len(sequences[index])
        if trees and length - common <= room:
            trees[-1].append(index)
            room -= length - common
        else:
            trees.append([index])
            room = token_budget - length
    return trees


def build_tree(sequences: Sequence[IntArray]) -> PrefixTree:
    """The tree of sequences that are sorted, as `plan_trees` gives them."""
    shared = shared_lengths(sequences)
    path = np.zeros(0, np.int64)
    paths: list[IntArray] = []
    cuts: list[int] = []
    parents: dict[int, int] = {}
    size = 0
    for sequence, common in zip(sequences, shared.tolist(), strict=True):
        new = np.arange(size, size + len(sequence) - common)
        if len(new) and not (paths and common == len(path)):  # else it goes on where the last ended
            cuts.append(size)
            parents[size] = int(path[common - 1]) if common else -1
            if common:
                cuts.append(int(path[common - 1]) + 1)  # the rest of the old branch
        path = np.concatenate([path[:common], new])
        paths.append(path)
        size += len(new)
    token_U, position_U = np.empty(size, np.int64), np.empty(size, np.int64)
    for sequence, path, common in zip(sequences, paths, shared.tolist(), strict=True):
        token_U[path[common:]] = sequence[common:]
        position_U[path[common:]] = np.arange(common, len(sequence))
    return PrefixTree(token_U, position_U, tuple(paths), _segments(cuts, parents, size))


def _segments(cuts: Sequence[int], parents: dict[int, int], size: int) -> tuple[Segment, ...]:
    """Args: parents: for the first token of each branch, the token before it, or -1 at a root."""
    starts = np.unique(np.asarray(cuts, np.int64))
    stops = np.append(starts[1:], size)
    segments: list[Segment] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        parent = parents[start] if start in parents else start - 1
        ancestors: tuple[int, ...] = ()
        if parent >= 0:
            above = int(np.searchsorted(starts, parent, side="right")) - 1
            ancestors = (*segments[above].ancestors, above)
        segments.append(Segment(start, stop, ancestors))
    return tuple(segments)
