"""AdamW with the options of each step, and the norm of gradients."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from tinker_rl.errors import RequestError
from tinker_rl.types import AdamParams

__all__ = ["check_adam", "gradient_norm", "make_optimizer", "take_step"]


def make_optimizer(params: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    """An optimiser without moments; its options come with each step."""
    return torch.optim.AdamW(list(params), fused=True)


def gradient_norm(gradients: Iterable[Tensor]) -> float:
    """Global 2-norm."""
    return float(torch.nn.utils.get_total_norm(list(gradients)))


def check_adam(params: AdamParams) -> None:
    """Raise RequestError for an option out of range."""
    rules = (
        ("learning_rate", params.learning_rate >= 0, "0 or more"),
        ("beta1", 0 <= params.beta1 < 1, "in [0, 1)"),
        ("beta2", 0 <= params.beta2 < 1, "in [0, 1)"),
        ("eps", params.eps >= 0, "0 or more"),
        ("weight_decay", params.weight_decay >= 0, "0 or more"),
        ("grad_clip_norm", params.grad_clip_norm >= 0, "0 (off) or more"),
    )
    for name, holds, rule in rules:
        value = getattr(params, name)
        if not (holds and np.isfinite(value)):
            raise RequestError(f"AdamParams.{name}: expected {rule}; got {value}.")


def take_step(
    optimizer: torch.optim.AdamW, params: list[nn.Parameter], options: AdamParams
) -> float:
    """One step on the gradients in `grad`; gives their norm before clipping.

    Raises:
        RequestError: if the norm is not finite; no weight is changed then.
    """
    limit = options.grad_clip_norm if options.grad_clip_norm > 0 else float("inf")
    norm = float(torch.nn.utils.clip_grad_norm_(params, limit))
    if not np.isfinite(norm):
        raise RequestError(
            f"optim_step: expected a finite gradient norm; got {norm}. The step was not taken and "
            "the gradients were dropped; lower the learning rate or set grad_clip_norm."
        )
    for group in optimizer.param_groups:
        group.update(
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
            weight_decay=options.weight_decay,
        )
    optimizer.step()
    return norm
