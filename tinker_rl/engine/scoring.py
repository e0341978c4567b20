"""From hidden states to log-probabilities, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Callable, Generator
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
    "loss_and_gradient",
    "probe_difference",
    "token_logprobs",
]

_LOGIT_BUDGET = {"cpu": 4 * 1024 * 1024, "cuda": 16 * 1024 * 1024}
"""Most logits held at once. 16 MiB of float32 stay in a CPU's cache: measured, more is slower."""

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


def logits_chunk(vocab_size: int, device: torch.device) -> int:
    """Rows of logits to make at once."""
    return max(64, _LOGIT_BUDGET.get(device.type, _LOGIT_BUDGET["cuda"]) // vocab_size)


class _LogSoftmaxAt(torch.autograd.Function):
    """Log-softmax at chosen entries; its gradient takes the place of the logits in memory."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, row_A: Tensor, token_A: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        norm_N = logits_NV.logsumexp(dim=1)
        ctx.save_for_backward(logits_NV, norm_N, row_A, token_A)
        return logits_NV[row_A, token_A] - norm_N[row_A]

    @staticmethod
    def backward(ctx: Any, grad_A: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits_NV, norm_N, row_A, token_A = ctx.saved_tensors
        sum_N = torch.zeros_like(norm_N).index_add_(0, row_A, grad_A)
        # Nobody needs the logits again: they were made for this one use.
        grad_NV = logits_NV.sub_(norm_N[:, None]).exp_().mul_(-sum_N[:, None])
        grad_NV.index_put_((row_A, token_A), grad_A, accumulate=True)
        return grad_NV, None, None


def _score(hidden_NH: Tensor, row_A: Tensor, token_A: Tensor, head: nn.Module) -> Tensor:
    logits_NV = head(hidden_NH).float()
    return cast(Tensor, _LogSoftmaxAt.apply(logits_NV, row_A, token_A))


def _chunks(
    hidden_NH: Tensor, row_A: Tensor, vocab_size: int
) -> Generator[tuple[slice, slice, Tensor]]:
    """(rows, asks, row of each ask within the chunk) of each chunk; `row_A` is sorted."""
    size = logits_chunk(vocab_size, hidden_NH.device)
    starts = list(range(0, hidden_NH.shape[0], size))
    firsts = torch.searchsorted(row_A, torch.tensor(starts, device=row_A.device)).tolist()
    for start, first, last in zip(starts, firsts, [*firsts[1:], len(row_A)], strict=False):
        yield slice(start, start + size), slice(first, last), row_A[first:last] - start


def token_logprobs(
    hidden_NH: Tensor, row_A: Tensor, token_A: Tensor, head: nn.Module, vocab_size: int
) -> Tensor:
    """Log-probability of each token that is asked for, with a graph where gradients are enabled.

    Logits are made in chunks, which the backward pass makes again: memory grows with N, not N x V.

    Args:
        hidden_NH: Hidden states of the positions before the tokens, shape [N, H].
        row_A: At which of them each token is asked for, int64, shape [A], ascending.
        token_A: Token ids, int64, shape [A].
    Returns:
        Natural logarithms, float32, shape [A].
    """
    parts = [hidden_NH.new_empty(0, dtype=torch.float32)]
    several = len(hidden_NH) > logits_chunk(vocab_size, hidden_NH.device)
    for rows, asks, local_A in _chunks(hidden_NH, row_A, vocab_size):
        arguments = (hidden_NH[rows], local_A, token_A[asks], head)
        parts.append(
            cast(Tensor, checkpoint(_score, *arguments, use_reentrant=False))
            if several and torch.is_grad_enabled()
            else _score(*arguments)
        )
    return torch.cat(parts)


def loss_and_gradient(
    hidden_NH: Tensor,
    row_A: Tensor,
    token_A: Tensor,
    head: nn.Module,
    vocab_size: int,
    loss_fn: Callable[[Tensor, slice], Tensor],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A loss whose terms each depend on one token, and its gradient, with each logit made once.

    The gradient of a chunk of logits is taken as soon as they are made, so they need not be kept,
    nor made again. That of the head's parameters is added to their `grad`.

    Args:
        hidden_NH, row_A, token_A: As for `token_logprobs`; `hidden_NH` without a graph.
        loss_fn: Gives the loss of some of the tokens, shape [a], from their logprobs and from the
            slice of [A] that they are.
    Returns:
        The logprobs, float32, shape [A]; the loss, a scalar; its gradient by `hidden_NH`, shape
        [N, H], None where that needs none.
    """
    needs_gradient = hidden_NH.requires_grad
    grad_NH = torch.empty_like(hidden_NH) if needs_gradient else None
    logprobs_A = torch.empty(len(row_A), device=hidden_NH.device)
    total = torch.zeros((), device=hidden_NH.device)
    for rows, asks, local_A in _chunks(hidden_NH, row_A, vocab_size):
        part = hidden_NH[rows].detach().requires_grad_(needs_gradient)
        logprobs = _score(part, local_A, token_A[asks], head)
        loss = loss_fn(logprobs, asks).sum()
        if loss.requires_grad:
            loss.backward()
        if grad_NH is not None:
            grad_NH[rows] = 0 if part.grad is None else part.grad
        logprobs_A[asks] = logprobs.detach()
        total += loss.detach()
    return logprobs_A, total, grad_NH
