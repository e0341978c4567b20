"""Keys and values: of prompts, and of the rows that are being sampled, one slot a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Keys", "PromptKeys", "SlotCache"]

_PAGE = 64
"""Slots grow by multiples of this many tokens."""


@dataclass(frozen=True, eq=False)
class Keys:
    """Keys and values of some tokens of a sequence, every layer: [kv heads, T, D]."""

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def length(self) -> int:
        """How many tokens."""
        return self.keys[0].shape[1] if self.keys else 0

    def part(self, start: int, stop: int) -> Keys:
        """Those of the tokens from `start` to `stop`, of the same memory."""
        return Keys([k[:, start:stop] for k in self.keys], [v[:, start:stop] for v in self.values])

    def clone(self) -> Keys:
        """A copy of their own."""
        return Keys([k.clone() for k in self.keys], [v.clone() for v in self.values])


class PromptKeys:
    """Keys and values of a prompt that is being read: those of its first `read` tokens."""

    def __init__(self, length: int, prefix: Sequence[Keys] = ()) -> None:
        """Have room for `length` tokens, and copy what is known of the first."""
        self.length = length
        self.read = 0
        self._whole = Keys([], [])
        for piece in prefix:
            for layer, (key, value) in enumerate(zip(piece.keys, piece.values, strict=True)):
                self.write(layer, self.read, key, value)
            self.read += piece.length

    def write(self, layer: int, start: int, key: Tensor, value: Tensor) -> None:
        """Set those of the tokens from `start` on, of one layer."""
        whole = self._whole
        for tensors, part in ((whole.keys, key), (whole.values, value)):
            if layer == len(tensors):
                tensors.append(part.new_empty(part.shape[0], self.length, part.shape[2]))
            tensors[layer][:, start : start + part.shape[1]] = part

    def layer(self, index: int, stop: int) -> tuple[Tensor, Tensor]:
        """Keys and values [kv heads, stop, D] of one layer."""
        return self._whole.keys[index][:, :stop], self._whole.values[index][:, :stop]

    def cut(self, start: int, stop: int) -> Keys:
        """Those of the tokens from `start` to `stop`; a copy, unless it is all of them."""
        if (start, stop) == (0, self.length):
            return self._whole
        return self._whole.part(start, stop).clone()

    @property
    def whole(self) -> Keys:
        """All of them, once they are read."""
        return self._whole


class SlotCache:
    """Slots [slots, kv heads, L, D] a layer; the rows in use are the first `rows`.

    It stands where transformers expects a cache.
    """

    is_compileable = False

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._row: Tensor | None = None
        self._position: Tensor | None = None
        self._rows = 0
        self._length = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(slots, tokens a slot)."""
        return (self.keys[0].shape[0], self.keys[0].shape[2]) if self.keys else (0, 0)

    def reserve(self, like: Keys, slots: int, length: int) -> None:
        """Have room for that many slots of that many tokens; what is in them is kept."""
        old_slots, old_length = self.shape
        if slots <= old_slots and length <= old_length:
            return
        slots = max(slots, old_slots)
        length = max(-(-length // _PAGE) * _PAGE, old_length)
        for layers, source in ((self.keys, like.keys), (self.values, like.values)):
            for index, prompt in enumerate(source):
                heads, _, size = prompt.shape
                grown = prompt.new_zeros(slots, heads, length, size)
                if old_slots:
                    grown[:old_slots, :, :old_length] = layers[index]
                    layers[index] = grown
                else:
                    layers.append(grown)

    def grow(self, length: int, limit: int) -> None:
        """Have room for `length` tokens in the slots there are; `limit` is the most they need."""
        slots, old = self.shape
        # Half as much again, since growing copies everything.
        length = max(length, min(limit, old + old // 2))
        length = -(-length // _PAGE) * _PAGE
        for layers in (self.keys, self.values):
            for index, layer in enumerate(layers):
                grown = layer.new_zeros(slots, layer.shape[1], length, layer.shape[3])
                grown[:, :, :old] = layer
                layers[index] = grown

    def put(self, first: int, count: int, pieces: Sequence[Keys]) -> None:
        """Copy a prompt, given in pieces, into the slots `first` to `first + count`."""
        rows, start = slice(first, first + count), 0
        for piece in pieces:
            stop = start + piece.length
            for layers, source in ((self.keys, piece.keys), (self.values, piece.values)):
                for layer, tensor in zip(layers, source, strict=True):
                    layer[rows, :, start:stop] = tensor
            start = stop

    def cut(self, row: int, start: int, stop: int) -> Keys:
        """A copy of the tokens from `start` to `stop` of a row."""
        whole = Keys([layer[row] for layer in self.keys], [layer[row] for layer in self.values])
        return whole.part(start, stop).clone()

    def move(self, source: Tensor, target: Tensor, length: int) -> None:
        """Copy whole slots, `length` tokens of them, from rows `source` to rows `target`."""
        for layers in (self.keys, self.values):
            for layer in layers:
                layer[target, :, :length] = layer[source, :, :length]

    def aim(self, rows: int, position_R: Tensor, length: int) -> None:
        """Say where the next `update` writes: row i at `position_R[i]`; L = `length` is read."""
        self._rows = rows
        self._row = torch.arange(rows, device=position_R.device)
        self._position = position_R
        self._length = length

    def update(
        self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token a row, and give the keys and values up to it."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[self._row, :, self._position] = key[:, :, 0]
        values[self._row, :, self._position] = value[:, :, 0]
        rows, length = self._rows, self._length
        return keys[:rows, :, :length], values[:rows, :, :length]

    def get_seq_length(self, *args: Any) -> int:
        """Tokens that are read."""
        return self._length
