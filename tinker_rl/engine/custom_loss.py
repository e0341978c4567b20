"""Calls loss functions that are not ours, and checks what they give back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tinker_rl.errors import RequestError
from tinker_rl.losses import CustomLoss, LossSpec
from tinker_rl.types import Datum

__all__ = ["call_custom_loss", "check_finite", "token_losses"]

T = TypeVar("T")


def _call(where: str, returns: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise RequestError(
            f"{where}: the loss function raised {type(error).__name__}: {error}, or did not return "
            f"{returns}. Nothing of this request was applied."
        ) from error


def _check_graph(where: str, loss: Tensor, logprobs: Sequence[Tensor]) -> None:
    needed = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in logprobs)
    if needed and not loss.requires_grad:
        raise RequestError(
            f"{where}: expected a loss that depends on the logprobs; got one without a graph. Do "
            "not detach them or turn them into numbers."
        )


def call_custom_loss(
    fn: CustomLoss, data: Sequence[Datum], logprobs: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """The scalar loss and the metrics of `forward_backward_custom`.

    Raises:
        RequestError: if the function raises, or gives no scalar that depends on the logprobs.
    """
    where = "forward_backward_custom"

    def call() -> tuple[Tensor, dict[str, float]]:
        loss, metrics = fn(list(data), logprobs)
        return loss, {key: float(value) for key, value in metrics.items()}

    loss, metrics = _call(where, "(loss, metrics)", call)
    if not isinstance(loss, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(
            f"{where}: expected a loss that is a tensor; got {type(loss).__name__}. Compute it "
            "from the logprobs that the function is given."
        )
    if loss.numel() != 1:
        raise RequestError(
            f"{where}: expected a scalar loss; got shape {list(loss.shape)}. Sum or average it."
        )
    _check_graph(where, loss, logprobs)
    return loss.reshape(()), metrics


def token_losses(
    name: str,
    spec: LossSpec,
    logprobs_A: Tensor,
    inputs: dict[str, Tensor],
    config: dict[str, float],
) -> Tensor:
    """The loss of each token, float32, shape [A], by a built-in or registered loss.

    Raises:
        RequestError: if the function raises, or gives something else.
    """
    where = f"loss_fn {name!r}"
    loss = _call(where, "a tensor", lambda: spec.fn(logprobs_A, inputs, config))
    shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
    expected = list(logprobs_A.shape)
    if shape != expected:
        raise RequestError(
            f"{where}: expected the loss of each token, shape {expected}; got {shape}. Return one "
            "value a token, not their sum: it is summed for you."
        )
    _check_graph(where, loss, [logprobs_A])
    return loss


def check_finite(where: str, value: float) -> float:
    """Give the value of a loss back.

    Raises:
        RequestError: if it is not finite.
    """
    if not np.isfinite(value):
        raise RequestError(
            f"{where}: expected a finite loss; got {value}. Check the logprobs and advantages of "
            "this request: nothing of it was applied."
        )
    return value
