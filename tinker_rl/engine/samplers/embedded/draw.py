"""Draws tokens from logits, every row with its own settings and random numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["draw", "log_distribution", "uniforms"]


def uniforms(seed: int, sample: int, count: int) -> npt.NDArray[np.float64]:
    """The random numbers of one sample, in [0, 1), shape [count].

    They depend on nothing but the seed and the sample's index: not on the batch it runs in.
    Source: counter-based generators, Salmon et al. 2011 (Philox).
    """
    key = np.array([seed % 2**64, sample], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def log_distribution(
    logits_RV: Tensor, temperature_R: Tensor, top_k_R: Tensor, top_p_R: Tensor
) -> Tensor:
    """Log-probabilities, float32 [R, V], of the distribution that is sampled from.

    After temperature, then top-k, then top-p, renormalised; -inf for what is cut off. At
    temperature 0, which draws the likeliest, it is the model's own: untempered, nothing cut off.
    """
    logits_RV = logits_RV.float()
    if not bool((temperature_R == 1).all()):
        greedy_R = temperature_R == 0
        divisor_R = temperature_R.masked_fill(greedy_R, 1)
        top_k_R, top_p_R = top_k_R.masked_fill(greedy_R, -1), top_p_R.masked_fill(greedy_R, 1)
        # The largest becomes 0, so that no temperature, however low, makes it infinite.
        logits_RV = (logits_RV - logits_RV.amax(dim=1, keepdim=True)) / divisor_R[:, None]
    logprobs_RV = torch.log_softmax(logits_RV, dim=1)
    if bool((top_k_R < 0).all()) and bool((top_p_R >= 1).all()):
        return logprobs_RV
    ordered_RV, order_RV = logprobs_RV.sort(dim=1, descending=True, stable=True)
    vocab = logprobs_RV.shape[1]
    rank_V = torch.arange(vocab, device=logprobs_RV.device)
    limit_R = torch.where(top_k_R < 0, torch.full_like(top_k_R, vocab), top_k_R)
    kept_RV = rank_V[None] < limit_R[:, None]
    top_RV = torch.where(kept_RV, ordered_RV, -torch.inf).softmax(dim=1)
    # A token stays while those before it have not yet reached top_p: the first always stays. With
    # top_p 1 all do, though their sum may round to 1 before the last.
    kept_RV &= ((top_RV.cumsum(dim=1) - top_RV) < top_p_R[:, None]) | (top_p_R >= 1)[:, None]
    kept_RV[:, 0] = True
    ordered_RV = torch.log_softmax(torch.where(kept_RV, ordered_RV, -torch.inf), dim=1)
    return torch.empty_like(ordered_RV).scatter_(1, order_RV, ordered_RV)


def draw(logprobs_RV: Tensor, temperature_R: Tensor, uniform_R: Tensor) -> tuple[Tensor, Tensor]:
    """One token a row by inverting the cumulative distribution; the likeliest at temperature 0.

    Args:
        uniform_R: Random numbers in [0, 1), float64.
    Returns:
        Token ids, int64 [R], and their logprobs, float32 [R].
    """
    cumulative_RV = logprobs_RV.exp().cumsum(dim=1, dtype=torch.float64)
    target_R1 = uniform_R[:, None] * cumulative_RV[:, -1:]
    token_R = torch.searchsorted(cumulative_RV, target_R1, right=True)[:, 0]
    token_R = token_R.clamp(max=logprobs_RV.shape[1] - 1)
    if bool((temperature_R == 0).any()):
        token_R = torch.where(temperature_R == 0, logprobs_RV.argmax(dim=1), token_R)
    return token_R, logprobs_RV.gather(1, token_R[:, None])[:, 0]
