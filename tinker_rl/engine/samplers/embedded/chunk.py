"""The next tokens of some prompts, which go through the model at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tinker_rl.engine.samplers.embedded.kv_cache import PromptKeys

__all__ = ["Chunk"]


@dataclass(frozen=True, eq=False)
class _Part:
    """The tokens that one prompt has in a chunk."""

    prompt: PromptKeys
    start: int
    """Position in the prompt of the first of them."""
    place: slice
    """Where they stand in the chunk."""
    mask: Tensor | None
    """Additive mask [T, S] of T tokens over the S up to the last of them; None where none is
    needed: for tokens with none before them, and for a single one."""

    @property
    def count(self) -> int:
        return self.place.stop - self.place.start

    def attend(self, query: Tensor, layer: int, scale: float | None) -> Tensor:
        """Query [heads, T, D] over the prompt's keys; returns [heads, T, D]."""
        heads, count, size = query.shape
        key, value = self.prompt.layer(layer, self.start + count)
        # Heads that share keys are a batch of their own, so that no kernel has to repeat the keys.
        shared = heads // key.shape[0]
        out = F.scaled_dot_product_attention(
            query.reshape(-1, shared, count, size),
            key[:, None].expand(-1, shared, -1, -1),
            value[:, None].expand(-1, shared, -1, -1),
            attn_mask=self.mask,
            is_causal=self.mask is None and count > 1,
            scale=scale,
        )
        return out.reshape(heads, count, -1)


class Chunk:
    """Tokens of several prompts one after the other, each over the keys of its own prompt.

    It stands where transformers expects a cache, and the attention asks it for the keys: those of
    several prompts are not one tensor.
    """

    is_compileable = False

    def __init__(
        self, parts: Sequence[tuple[PromptKeys, int]], device: torch.device, dtype: torch.dtype
    ) -> None:
        """The next `count` tokens of each prompt; `dtype` is the model's."""
        self._parts: list[_Part] = []
        self._layer = -1
        place = 0
        for prompt, count in parts:
            start, mask = prompt.read, None
            if start > 0 and count > 1:
                whole = torch.full((count, start + count), -torch.inf, dtype=dtype, device=device)
                mask = whole.triu(start + 1)
            self._parts.append(_Part(prompt, start, slice(place, place + count), mask))
            place += count
        self.position_N = torch.cat(
            [torch.arange(p.start, p.start + p.count, device=device) for p in self._parts]
        )
        """Position of each token in its prompt, int64."""

    def update(
        self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Give one layer's keys and values [1, kv heads, N, D] to the prompts."""
        self._layer = layer_idx
        for part in self._parts:
            k, v = key[0, :, part.place], value[0, :, part.place]
            part.prompt.write(layer_idx, part.start, k, v)
        return key, value

    def attend(self, query: Tensor, scale: float | None) -> Tensor:
        """Query [1, heads, N, D] over the keys that were last given; returns [1, N, heads, D]."""
        outs = [part.attend(query[0, :, part.place], self._layer, scale) for part in self._parts]
        return torch.cat(outs, dim=1).transpose(0, 1)[None]

    def finish(self) -> None:
        """Say that every layer has given its keys."""
        for part in self._parts:
            part.prompt.read += part.count

    def get_seq_length(self, *args: Any) -> int:
        """Tokens before those that are being read: positions are given, nobody needs to count."""
        return 0
