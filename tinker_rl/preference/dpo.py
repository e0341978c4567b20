"""Direct preference optimisation, as a loss for `forward_backward_custom`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tinker_rl.errors import ShapeError
from tinker_rl.types import Datum

if TYPE_CHECKING:
    from tinker_rl.losses import CustomLoss

__all__ = ["dpo_loss", "interleave_pairs"]


def interleave_pairs(chosen: Sequence[Datum], rejected: Sequence[Datum]) -> list[Datum]:
    """The data of `dpo_loss`: the chosen answer of each pair, then the rejected one.

    Raises:
        ShapeError: if there are not as many of one as of the other.
    """
    if len(chosen) != len(rejected):
        raise ShapeError(
            f"interleave_pairs: expected a rejected answer for each chosen one; got {len(chosen)} "
            f"chosen and {len(rejected)} rejected. Drop those without a partner."
        )
    return [datum for pair in zip(chosen, rejected, strict=True) for datum in pair]


def dpo_loss(
    reference_logprobs: Sequence[Sequence[float] | Tensor], beta: float = 0.1
) -> CustomLoss:
    """-log sigmoid(beta * (chosen's log-ratio - rejected's)), averaged over pairs.

    The log-ratio of an answer is the sum, over its tokens, of `weights` times the learner's logprob
    less the reference's. The prompt that both answers of a pair begin with is computed once.

    Args:
        reference_logprobs: Of each datum, the reference model's logprobs of its `target_tokens`,
            in nats, shape [T]: what `forward` gives before the first step, or a frozen sampling
            client. In the order of the data.
        beta: How far the learner may leave the reference: the smaller, the further.
    Returns:
        A loss of data in the order of `interleave_pairs`. Its metrics, means over pairs: `accuracy`
        (share of pairs in which the chosen answer has the greater reward), `chosen_reward`,
        `rejected_reward` (beta times the log-ratio), `margin` (their difference).
    Raises:
        ShapeError: by the loss, when data and reference do not fit each other.
    Source:
        DPO, arXiv:2305.18290.
    """

    def loss(data: list[Datum], logprobs: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
        if len(data) % 2 or len(reference_logprobs) != len(data):
            raise ShapeError(
                f"dpo_loss: expected pairs, and reference logprobs of each datum; got {len(data)} "
                f"datums and logprobs of {len(reference_logprobs)}. Use interleave_pairs."
            )
        log_ratios: list[Tensor] = []
        for datum, own, reference in zip(data, logprobs, reference_logprobs, strict=True):
            gap = own - torch.as_tensor(reference, dtype=own.dtype, device=own.device)
            weights = datum.loss_fn_inputs["weights"].to_torch().to(own.device)
            log_ratios.append((weights * gap).sum())
        reward_P2 = beta * torch.stack(log_ratios).view(-1, 2)
        margin_P = reward_P2[:, 0] - reward_P2[:, 1]
        chosen, rejected = reward_P2.detach().mean(dim=0).tolist()
        metrics = {
            "accuracy": float((margin_P > 0).float().mean()),
            "chosen_reward": chosen,
            "rejected_reward": rejected,
            "margin": chosen - rejected,
        }
        return -F.logsigmoid(margin_P).mean(), metrics

    return loss
