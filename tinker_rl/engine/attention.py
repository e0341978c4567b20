"""Attention along the paths of a prefix tree, for any full-attention model of transformers.

A token attends to itself and to its ancestors. A segment therefore attends causally to itself and
wholly to the segments above it: one small attention a segment, and no mask over the whole row.
The tree reaches the layers in place of their attention mask. That needs a mask function registered
beside the attention function: without one transformers makes no mask, and says nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tinker_rl.engine.prefix_tree import PrefixTree

__all__ = ["TREE_ATTENTION", "TreeMask", "attending", "attention_kinds"]

TREE_ATTENTION = "tinker_tree"
"""Name of the attention implementation: `sdpa`, but for tokens that stand in a tree."""

_NOT_PLAIN = ("softcap", "s_aux", "position_bias", "sliding_window")
"""Arguments by which a layer says that its attention is more than a softmax of products."""


def attention_kinds(model: PreTrainedModel) -> set[str]:
    """How the layers of a model mix tokens, in the words of transformers: `full_attention`, ...

    `full_attention` alone means that every layer attends to all tokens before, in the plain way.
    """
    config = model.config.get_text_config()
    if getattr(model, "_is_stateful", False):
        return {"recurrent"}
    kinds: set[str] = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if (
        not hasattr(config, "layer_types")
        and window
        and getattr(config, "use_sliding_window", True)
    ):
        kinds = {"sliding_attention"}
    if getattr(config, "attn_logit_softcapping", None):
        kinds.add("soft-capped attention")
    return kinds


class TreeMask:
    """A prefix tree as the attention of one micro-batch needs it."""

    def __init__(self, tree: PrefixTree, device: torch.device) -> None:
        self.segments = tree.segments
        self.lengths = [segment.length for segment in tree.segments]
        masks: dict[tuple[int, int], Tensor] = {}
        self.masks: list[Tensor | None] = []
        """For each segment, which of the keys on its path its queries see, bool [T, L]; None for a
        root, which is causal."""
        for segment in tree.segments:
            above = sum(self.lengths[index] for index in segment.ancestors)
            shape = (segment.length, above + segment.length)
            if above and shape not in masks:
                masks[shape] = torch.ones(shape, dtype=torch.bool, device=device).tril(above)
            self.masks.append(masks[shape] if above else None)


_present: ContextVar[TreeMask | None] = ContextVar("tree", default=None)


@contextmanager
def attending(tree: TreeMask | None) -> Generator[None]:
    """Inside, a model whose attention is `TREE_ATTENTION` takes its one row of tokens as `tree`."""
    token = _present.set(tree)
    try:
        yield
    finally:
        _present.reset(token)


def _mask(*args: Any, **kwargs: Any) -> Any:
    tree = _present.get()
    return sdpa_mask(*args, **kwargs) if tree is None else tree


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | TreeMask | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Query [1, heads, U, D], key and value [1, kv heads, U, D]; gives [1, U, heads, D]."""
    if not isinstance(attention_mask, TreeMask):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    strange = [name for name in _NOT_PLAIN if kwargs.get(name) is not None]
    if strange:
        raise NotImplementedError(f"attention with {strange[0]}")
    tree = attention_mask
    grouped = query.shape[1] != key.shape[1]
    if grouped and query.is_cuda:  # its kernels take a mask, or grouped heads, but not both
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        grouped = False
    keys, values = key.split(tree.lengths, dim=2), value.split(tree.lengths, dim=2)
    outs: list[Tensor] = []
    for index, query_T in enumerate(query.split(tree.lengths, dim=2)):
        path = (*tree.segments[index].ancestors, index)
        mask = tree.masks[index]
        outs.append(
            F.scaled_dot_product_attention(
                query_T,
                keys[index] if mask is None else torch.cat([keys[i] for i in path], dim=2),
                values[index] if mask is None else torch.cat([values[i] for i in path], dim=2),
                attn_mask=mask,
                is_causal=mask is None,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=grouped,
            )
        )
    return torch.cat(outs, dim=2).transpose(1, 2), None


AttentionInterface.register(TREE_ATTENTION, _attend)
AttentionMaskInterface.register(TREE_ATTENTION, _mask)
