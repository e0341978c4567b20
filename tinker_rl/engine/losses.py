"""The losses of the Tinker API: sums over tokens, one pure function each.

Every function takes the learner's logprobs and the inputs of the datums, of the same shape [N], and
gives the loss of each token [N], whose sum is the loss (see `tinker_rl.losses.LossFn`).
In the formulas lp is the learner's logprob, q the sampler's (`logprobs`), A the advantage, w the
weight, and r = exp(lp - q). Positions are masked by w = 0 or A = 0 (but for `dro`, whose penalty
remains).
Source: https://tinker-docs.thinkingmachines.ai (losses), and the paper that each function names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from tinker_rl.errors import RequestError, UnknownNameError, UnsupportedError, choices
from tinker_rl.losses import LossSpec, registered_losses

__all__ = ["CUSTOM", "LOSSES", "get_loss", "loss_config"]

CUSTOM = "custom"
"""Name under which a registered function of the caller runs; see `Backend.add_loss`."""

Inputs: TypeAlias = Mapping[str, Tensor]
Config: TypeAlias = Mapping[str, float]


def _log_ratio(logprobs: Tensor, inputs: Inputs) -> Tensor:
    """lp - q; 0 where A is 0, since q may be anything there, and inf * 0 is not a number."""
    return (logprobs - inputs["logprobs"]).masked_fill(inputs["advantages"] == 0, 0.0)


def _clipped_surrogate(log_ratio: Tensor, advantages: Tensor, config: Config) -> Tensor:
    """-min(r * A, clip(r, low, high) * A), with r = exp(log_ratio)."""
    ratio = torch.exp(log_ratio.detach())
    clipped = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    is_clipped = clipped * advantages < ratio * advantages
    # Where the clipped side is the minimum, r has no gradient; left in, an r that overflows would
    # make it 0 * inf.
    ratio = torch.exp(log_ratio.masked_fill(is_clipped, 0.0))
    return -torch.where(is_clipped, clipped * advantages, ratio * advantages)


def cross_entropy(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-w * lp. Weights may be any numbers, negative ones too."""
    return -inputs["weights"] * logprobs


def importance_sampling(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-r * A: the policy gradient, corrected for who sampled."""
    return -torch.exp(_log_ratio(logprobs, inputs)) * inputs["advantages"]


def ppo(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-min(r * A, clip(r, low, high) * A). Source: PPO, arXiv:1707.06347."""
    return _clipped_surrogate(_log_ratio(logprobs, inputs), inputs["advantages"], config)


def cispo(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-stopgrad(clip(r, low, high)) * lp * A. Source: MiniMax-M1, arXiv:2506.13585."""
    ratio = torch.exp(_log_ratio(logprobs, inputs)).detach()
    clipped = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    return -clipped * logprobs * inputs["advantages"]


def dro(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-(lp * A - beta / 2 * (lp - q)^2). Source: DRO, arXiv:2405.19107."""
    penalty = 0.5 * config["beta"] * (logprobs - inputs["logprobs"]) ** 2
    return -(logprobs * inputs["advantages"] - penalty)


def gspo(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """PPO on the ratio of a whole sequence: -min(s * A, clip(s, low, high) * A).

    s = exp(mean of lp - q over the tokens of the datum whose `sequence_ratio_mask` is not 0; 1 if
    there are none). Each token carries the value of s, but the gradient of its own lp alone.
    Source: GSPO-token, arXiv:2507.18071.
    """
    sequence = inputs["sequence"]
    counts = (inputs["sequence_ratio_mask"] != 0).to(logprobs.dtype)
    gap = (logprobs.detach() - inputs["logprobs"]).masked_fill(counts == 0, 0.0)
    size = int(sequence.max()) + 1
    total = gap.new_zeros(size).index_add(0, sequence, gap)
    count = gap.new_zeros(size).index_add(0, sequence, counts).clamp(min=1)
    log_ratio = (total / count)[sequence] + (logprobs - logprobs.detach())
    advantages = inputs["advantages"]
    return _clipped_surrogate(log_ratio.masked_fill(advantages == 0, 0.0), advantages, config)


_POLICY = ("logprobs", "advantages")
LOSSES: dict[str, LossSpec] = {
    "cross_entropy": LossSpec(
        fn=cross_entropy, inputs=("weights",), optional=("weights",), mask="weights"
    ),
    "importance_sampling": LossSpec(fn=importance_sampling, inputs=_POLICY, mask="advantages"),
    "ppo": LossSpec(
        fn=ppo,
        inputs=_POLICY,
        defaults={"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
        mask="advantages",
    ),
    "cispo": LossSpec(
        fn=cispo,
        inputs=_POLICY,
        defaults={"clip_low_threshold": 0.0, "clip_high_threshold": 4.0},
        mask="advantages",
    ),
    "dro": LossSpec(fn=dro, inputs=_POLICY, defaults={"beta": 0.05}),
    "gspo": LossSpec(
        fn=gspo,
        inputs=(*_POLICY, "sequence_ratio_mask"),
        # The paper's; those of the hosted service are not published.
        defaults={"clip_low_threshold": 1 - 3e-4, "clip_high_threshold": 1 + 4e-4},
        scope="sequence",
    ),
}


def get_loss(name: str) -> LossSpec:
    """The loss of that name, built in or registered.

    Raises:
        UnsupportedError: for losses that Tinker has and this engine refuses.
        UnknownNameError: for any other unknown name.
    """
    known = {**registered_losses(), **LOSSES}
    if name in known:
        return known[name]
    if name == "stable_reinforce":
        raise UnsupportedError(
            "loss_fn 'stable_reinforce': its formula is not published, so it cannot be reproduced "
            "here. Use 'ppo' or 'cispo', which correct for off-policy samples too."
        )
    raise UnknownNameError(
        f"loss_fn: expected a known loss; got {name!r}.{choices(name, known)} Add one of your own "
        "with register_loss."
    )


def loss_config(name: str, config: Mapping[str, float | str] | None) -> dict[str, float]:
    """The loss's options, with defaults for those that `config` leaves out.

    Raises:
        RequestError: on a key that the loss does not have, or a value that is not a finite number.
    """
    defaults = get_loss(name).defaults
    merged = dict(defaults)
    for key, value in (config or {}).items():
        if key not in defaults:
            raise UnknownNameError(
                f"loss_fn_config: expected options of {name!r}; got {key!r}."
                f"{choices(key, defaults)}"
            )
        try:
            merged[key] = float(value)
        except (TypeError, ValueError):
            merged[key] = float("nan")
        if not torch.isfinite(torch.tensor(merged[key])):
            raise RequestError(f"loss_fn_config[{key!r}]: expected a finite number; got {value!r}.")
    low, high = merged.get("clip_low_threshold"), merged.get("clip_high_threshold")
    if low is not None and high is not None and low > high:
        raise RequestError(
            f"loss_fn_config: expected clip_low_threshold of clip_high_threshold or less; got "
            f"{low} and {high}. They bound the ratio itself: 0.8 and 1.2 allow a fifth each way."
        )
    return merged
