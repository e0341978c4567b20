"""Keys and values of the rows that are being sampled, one slot a row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["PromptKeys", "PromptReader", "SlotCache"]

_PAGE = 64
"""Slots grow by multiples of this many tokens."""


class PromptReader:
    """Keeps the keys and values that a model computes while it reads prompts.

    It stands where transformers expects a cache; so does `SlotCache`.
    """

    is_compileable = False

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def update(
        self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep one layer's [U, kv heads, T, D]."""
        self.keys.append(key)
        self.values.append(value)
        return key, value

    def get_seq_length(self, *args: Any) -> int:
        """Tokens before those that are being read."""
        return 0


class PromptKeys:
    """Keys and values of one prompt, every layer: [kv heads, T, D]."""

    def __init__(self, reader: PromptReader, row: int, length: int) -> None:
        self.keys = [layer[row, :, :length].clone() for layer in reader.keys]
        self.values = [layer[row, :, :length].clone() for layer in reader.values]
        self.length = length


class SlotCache:
    """Slots [slots, kv heads, L, D] a layer; the rows in use are the first `rows`."""

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

    def reserve(self, like: PromptKeys, slots: int, length: int) -> None:
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

    def put(self, first: int, count: int, prompt: PromptKeys) -> None:
        """Copy a prompt into the slots `first` to `first + count`."""
        rows = slice(first, first + count)
        for layers, source in ((self.keys, prompt.keys), (self.values, prompt.values)):
            for layer, tensor in zip(layers, source, strict=True):
                layer[rows, :, : prompt.length] = tensor

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
