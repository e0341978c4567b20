"""From hidden states to log-probabilities, without ever holding all logits."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

__all__ = [
    "PROBE",
    "PROBE_TOLERANCE",
    "LanguageModel",
    "logits_chunk",
    "probe_difference",
    "token_logprobs",
]

_LOGIT_BUDGET = 16 * 1024 * 1024
"""Most logits held at once: 64 MiB of float32."""

PROBE = torch.arange(3, 11)[None]
"""A few tokens, by which a part of a model is compared with the whole."""

PROBE_TOLERANCE = (1e-2, 0.5)
"""Greatest `probe_difference` in float32, and in half precision."""

_LOGIT_OPTIONS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Options of a configuration that change logits after the unembedding."""


class LanguageModel:
    """A causal LM cut in two: tokens to hidden states, and hidden states to logits.

    Works for the models of transformers whose logits are the unembedding of the last hidden
    state; those that scale or cap them as well are refused by `check_supported`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        own = getattr(model, model.base_model_prefix, None)
        self.backbone = cast(nn.Module, own if own is not None else model.get_decoder())

    @property
    def head(self) -> nn.Module:
        """The unembedding; an adapter may have been put around it since."""
        return cast(nn.Module, self.model.get_output_embeddings())

    @property
    def vocab_size(self) -> int:
        """Number of logits."""
        return int(self.model.config.get_text_config().vocab_size)

    def check_supported(self) -> str | None:
        """Why the model cannot be cut in two, or None."""
        config = self.model.config.get_text_config()
        for option in _LOGIT_OPTIONS:
            if getattr(config, option, None) not in (None, 1, 1.0):
                return f"its logits are changed by `{option}`, which is not supported yet"
        try:
            with torch.no_grad():
                ids = PROBE.to(self.model.device) % self.vocab_size
                whole = self.model(input_ids=ids, use_cache=False).logits
                cut = self.head(self.hidden_states(ids, use_cache=False))
                difference = probe_difference(whole, cut)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return f"it cannot be taken apart ({type(error).__name__}: {error})"
        if difference > PROBE_TOLERANCE[self.model.dtype != torch.float32]:
            return "its logits are more than the unembedding of the last hidden state"
        return None

    def hidden_states(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """Last hidden state of each position, shape [B, T, H], of token ids [B, T]."""
        return self.backbone(input_ids=input_ids, **kwargs).last_hidden_state


def probe_difference(one: Tensor, other: Tensor) -> float:
    """Median absolute difference of log-probabilities, of logits of the same shape.

    The median, since in half precision a few may differ much: an expert more or less.
    """
    return float((one.float().log_softmax(-1) - other.float().log_softmax(-1)).abs().median())


def logits_chunk(vocab_size: int) -> int:
    """Rows of logits to make at once."""
    return max(64, _LOGIT_BUDGET // vocab_size)


def _gather(hidden_NH: Tensor, target_N: Tensor, head: nn.Module) -> Tensor:
    logits_NV = head(hidden_NH).float()
    chosen_N = logits_NV.gather(1, target_N[:, None])[:, 0]
    return chosen_N - logits_NV.logsumexp(dim=1)


def token_logprobs(hidden_NH: Tensor, target_N: Tensor, head: nn.Module, vocab_size: int) -> Tensor:
    """Log-probability of each target token.

    Logits are made in chunks, which the backward pass makes again: memory grows with N, not N x V.

    Args:
        hidden_NH: Hidden state of the position before each target, shape [N, H].
        target_N: Token ids, int64, shape [N].
    Returns:
        Natural logarithms, float32, shape [N].
    """
    size = logits_chunk(vocab_size)
    if hidden_NH.shape[0] <= size:
        return _gather(hidden_NH, target_N, head)
    chunks = zip(hidden_NH.split(size), target_N.split(size), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([_gather(h, t, head) for h, t in chunks])
    return torch.cat(
        [cast(Tensor, checkpoint(_gather, h, t, head, use_reentrant=False)) for h, t in chunks]
    )
