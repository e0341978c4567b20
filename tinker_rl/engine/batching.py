"""Lays the sequences of a request out in micro-batches. Pure.

Three layouts, of which a model gets the first that it computes exactly:
- `tree`: one row in which a token that several sequences begin with stands once;
- `packed`: rows of several whole sequences, one after the other, whose positions begin anew;
- `padded`: a row for each sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from tinker_rl.engine.prefix_tree import IntArray, PrefixTree, build_tree, plan_trees

__all__ = ["Layout", "MicroBatch", "lay_out"]

Layout: TypeAlias = Literal["tree", "packed", "padded"]


@dataclass(frozen=True)
class MicroBatch:
    """Tokens that go through the model at once."""

    indices: tuple[int, ...]
    """Sequences of the request that are in it."""
    token_BT: IntArray
    """Token ids, int64, padded with 0."""
    position_BT: IntArray | None
    """Position of each token in its sequence; None where rows simply count up."""
    places: tuple[IntArray, ...]
    """For each sequence, where its tokens stand in the flattened [B * T], int64, shape [T]."""
    tree: PrefixTree | None = None
    """The tree that the one row holds, in the layout of that name."""

    @property
    def computed_tokens(self) -> int:
        """Tokens that the model computes, padding left out."""
        if self.tree is not None:
            return self.token_BT.size
        return sum(len(place) for place in self.places)

    @property
    def attended_pairs(self) -> int:
        """Pairs of a token and one that it attends to, itself included."""
        if self.tree is not None:  # as many as the token's depth
            return int((self.tree.position_U + 1).sum())
        return sum(len(place) * (len(place) + 1) // 2 for place in self.places)


def lay_out(
    sequences: Sequence[IntArray], token_budget: int, layout: Layout = "tree"
) -> list[MicroBatch]:
    """Micro-batches of at most `token_budget` tokens, padding included, with every sequence once.

    A single sequence that is longer than the budget makes a micro-batch of its own.

    Args:
        sequences: Token ids, int64, shape [T] with T >= 1 each.
    """
    if layout == "tree":
        return [_tree(sequences, indices) for indices in plan_trees(sequences, token_budget)]
    lengths = [len(sequence) for sequence in sequences]
    batches = _plan_rows(lengths, token_budget, share=layout == "packed")
    return [_rows(sequences, rows, layout) for rows in batches]


def _tree(sequences: Sequence[IntArray], indices: Sequence[int]) -> MicroBatch:
    tree = build_tree([sequences[index] for index in indices])
    return MicroBatch(tuple(indices), tree.token_U[None], tree.position_U[None], tree.paths, tree)


def _plan_rows(lengths: Sequence[int], token_budget: int, *, share: bool) -> list[list[list[int]]]:
    """Indices of the sequences of each row of each micro-batch of at most `token_budget` tokens.

    Rows are as wide as the first, which holds the longest sequence; with `share`, a row takes
    further sequences while there is room (best fit: the fullest row that has room for it).
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[list[int]]] = []
    rooms: list[int] = []
    width = 0
    for index in order:
        length = lengths[index]
        fitting = [row for row, room in enumerate(rooms) if room >= length] if share else []
        if fitting:
            row = min(fitting, key=lambda row: rooms[row])
            batches[-1][row].append(index)
            rooms[row] -= length
        elif batches and (len(rooms) + 1) * width <= token_budget:
            batches[-1].append([index])
            rooms.append(width - length)
        else:
            width = length
            batches.append([[index]])
            rooms = [0]
    return batches


def _rows(
    sequences: Sequence[IntArray], rows: Sequence[Sequence[int]], layout: Layout
) -> MicroBatch:
    width = max(sum(len(sequences[index]) for index in row) for row in rows)
    token_BT = np.zeros((len(rows), width), np.int64)
    position_BT = np.zeros((len(rows), width), np.int64)
    indices: list[int] = []
    places: list[IntArray] = []
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            stop = start + len(sequences[index])
            token_BT[number, start:stop] = sequences[index]
            position_BT[number, start:stop] = np.arange(stop - start)
            places.append(np.arange(number * width + start, number * width + stop))
            indices.append(index)
            start = stop
    positions = position_BT if layout == "packed" else None
    return MicroBatch(tuple(indices), token_BT, positions, tuple(places))
