"""Which log-probabilities a micro-batch has to give, and what its loss needs for each.

An ask is a token whose log-probability some datum wants at some position: one a position, or K of
them where the targets are a matrix. Asks of several datums may fall on one hidden state, which a
prefix tree holds once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tinker_rl.engine.batching import MicroBatch
from tinker_rl.types import Datum
from tinker_rl.types.inputs import Array

__all__ = ["Asks", "collect_asks"]


@dataclass(frozen=True)
class Asks:
    """The A asks of a micro-batch, sorted by the hidden state that they fall on.

    "Datum order" means those of the first datum of the micro-batch first, row by row.
    """

    place_N: Tensor
    """Where the N hidden states that are asked for stand in the flattened [B * T], int64. Those on
    which a loss depends come first."""
    num_trained: int
    """How many of them a loss depends on."""
    num_trained_asks: int
    """How many asks fall on those."""
    row_A: Tensor
    """Index into `place_N` of each ask, int64, ascending."""
    token_A: Tensor
    """Token ids, int64."""
    order_A: Tensor
    """Index of each ask in datum order, int64."""
    shapes: tuple[tuple[int, ...], ...]
    """Of each datum's targets."""
    inputs: dict[str, Tensor]
    """Loss inputs in datum order, shape [A] each; `sequence` is the datum's number in the batch."""

    def in_datum_order(self, value_A: Tensor) -> Tensor:
        """Undo the sorting; differentiable."""
        return torch.empty_like(value_A).index_copy(0, self.order_A, value_A)

    def split(self, value_A: Tensor) -> list[Tensor]:
        """Values in datum order as one tensor a datum, in the shape of its targets."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = value_A.split(sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


def collect_asks(
    batch: MicroBatch,
    data: Sequence[Datum],
    keys: Sequence[str],
    mask: str | None,
    device: torch.device,
) -> Asks:
    """The asks of a micro-batch of checked datums.

    Args:
        data: All datums of the request.
        keys: Loss inputs to collect; one that a datum lacks is 1 everywhere.
        mask: The input at whose zeros nothing is trained, if there is one.
    """
    targets = [data[index].loss_fn_inputs["target_tokens"].array for index in batch.indices]
    place_A = np.concatenate(
        [
            np.repeat(place, target.size // len(place))
            for place, target in zip(batch.places, targets, strict=True)
        ]
    )
    columns = {"target_tokens": np.concatenate([target.ravel() for target in targets])}
    for key in keys:
        columns[key] = np.concatenate(
            [
                _column(data[index], key, target)
                for index, target in zip(batch.indices, targets, strict=True)
            ]
        )
    columns["sequence"] = np.repeat(np.arange(len(targets)), [target.size for target in targets])
    is_trained = np.ones(len(place_A), bool) if mask is None else columns[mask] != 0
    trained = np.unique(place_A[is_trained])
    others = np.setdiff1d(place_A, trained)
    place_N = np.concatenate([trained, others])
    row_of_place = np.empty(batch.token_BT.size, np.int64)
    row_of_place[place_N] = np.arange(len(place_N))
    row_A = row_of_place[place_A]
    order_A = np.argsort(row_A, kind="stable")

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Asks(
        place_N=tensor(place_N),
        num_trained=len(trained),
        num_trained_asks=int(np.searchsorted(row_A[order_A], len(trained))),
        row_A=tensor(row_A[order_A]),
        token_A=tensor(columns["target_tokens"][order_A]),
        order_A=tensor(order_A),
        shapes=tuple(target.shape for target in targets),
        inputs={key: tensor(column) for key, column in columns.items()},
    )


def _column(datum: Datum, key: str, target: Array) -> Array:
    tensor = datum.loss_fn_inputs.get(key)
    return np.ones(target.size, np.float32) if tensor is None else tensor.array.ravel()
