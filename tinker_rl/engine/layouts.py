"""Which layout of micro-batches a model computes exactly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tinker_rl.engine.attention import TREE_ATTENTION, TreeMask, attending, attention_kinds
from tinker_rl.engine.batching import Layout, MicroBatch, lay_out
from tinker_rl.engine.scoring import LanguageModel, probe_difference

__all__ = ["choose_layout", "hidden_states"]

_TOLERANCE = (1e-4, 0.1)
"""Greatest difference of logprobs in float32, and greatest median in half precision."""

_PACKABLE = {
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "soft-capped attention",
}
"""Kinds of layers for which transformers keeps sequences in one row apart, by their positions."""

_PROBE = ([3, 4, 5, 6, 7, 8], [3, 4, 5, 9, 10], [11, 12, 13, 14])
"""Token ids: two sequences that begin alike, and one that does not."""


def hidden_states(language_model: LanguageModel, batch: MicroBatch) -> Tensor:
    """Last hidden state of every token of a micro-batch, shape [B * T, H]."""
    device = language_model.model.device
    token_BT = torch.from_numpy(batch.token_BT).to(device)
    arguments: dict[str, Tensor] = {}
    if batch.position_BT is not None:
        arguments["position_ids"] = torch.from_numpy(batch.position_BT).to(device)
    # In rows without positions, padding stands on the right of causal layers: it changes no token.
    tree = None if batch.tree is None else TreeMask(batch.tree, device)
    with attending(tree):
        hidden = language_model.hidden_states(token_BT, use_cache=False, **arguments)
    return hidden.flatten(0, 1)


def choose_layout(language_model: LanguageModel) -> tuple[Layout, str]:
    """The first layout that gives the logprobs of whole sequences, and what speaks against others.

    For `tree` the model's attention implementation is exchanged, if it is to be had.
    """
    model = language_model.model
    kinds = attention_kinds(model)
    reason = f"got {', '.join(sorted(kinds))}"
    if kinds == {"full_attention"}:
        own = str(model.config._attn_implementation)  # pyright: ignore[reportPrivateUsage]
        try:
            model.set_attn_implementation(TREE_ATTENTION)
            problem = _problem(language_model, "tree")
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model does with attention that it does not know
            problem = f"{type(error).__name__}: {error}"
        if problem is None:
            return "tree", ""
        model.set_attn_implementation(own)
        reason = problem
    if kinds <= _PACKABLE:
        try:
            if _problem(language_model, "packed") is None:
                return "packed", reason
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = f"{reason}; {type(error).__name__}: {error}"
    return "padded", reason


def _problem(language_model: LanguageModel, layout: Layout) -> str | None:
    """How a layout differs from the sequences one by one; None if it does not."""
    model: PreTrainedModel = language_model.model
    sequences = [np.array(ids, np.int64) % language_model.vocab_size for ids in _PROBE]
    budget = sum(map(len, sequences))
    with torch.no_grad():
        if layout == "packed":  # all of them in one row, which is as wide as the longest otherwise
            sequences.insert(0, np.concatenate(sequences))
            budget = 2 * len(sequences[0])
        differences: list[float] = []
        for batch in lay_out(sequences, budget, layout):
            logits_NV = language_model.head(hidden_states(language_model, batch))
            for index, place in zip(batch.indices, batch.places, strict=True):
                ids = torch.from_numpy(sequences[index])[None].to(model.device)
                expected = model(input_ids=ids, use_cache=False).logits[0]
                got = logits_NV[torch.from_numpy(place).to(model.device)]
                if model.dtype == torch.float32:
                    gap = (expected.log_softmax(-1) - got.log_softmax(-1)).abs().max()
                    differences.append(float(gap))
                else:
                    differences.append(probe_difference(expected, got))
    if max(differences) > _TOLERANCE[model.dtype != torch.float32]:
        return f"logprobs differ by {max(differences):.3g}"
    return None
