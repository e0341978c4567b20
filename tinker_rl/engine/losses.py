"""The losses of the Tinker API: sums over tokens, one pure function each.

Every function takes the learner's logprobs and the datum's inputs of the same shape [N] (all tokens
of a micro-batch, one after the other), and gives the per-token loss [N], whose sum is the loss.
In the formulas lp is the learner's logprob, q the sampler's (`logprobs`), A the advantage, w the
weight, and r = exp(lp - q). Positions are masked by w = 0 or A = 0 (but for `dro`, whose penalty
remains).
Source: https://tinker-docs.thinkingmachines.ai (losses).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec
import torch
from torch import Tensor

from tinker_rl.errors import RequestError, UnknownNameError, UnsupportedError, choices

__all__ = ["CUSTOM", "LOSSES", "LossSpec", "get_loss", "loss_config"]

CUSTOM = "custom"
"""Name under which a registered function of the caller runs; see `Backend.add_loss`."""

Inputs: TypeAlias = Mapping[str, Tensor]
Config: TypeAlias = Mapping[str, float]
LossFn: TypeAlias = Callable[[Tensor, Inputs, Config], Tensor]


def _log_ratio(logprobs: Tensor, inputs: Inputs) -> Tensor:
    """lp - q; 0 where A is 0, since q may be anything there, and inf * 0 is not a number."""
    return (logprobs - inputs["logprobs"]).masked_fill(inputs["advantages"] == 0, 0.0)


def cross_entropy(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-w * lp. Weights may be any numbers, negative ones too."""
    return -inputs["weights"] * logprobs


def importance_sampling(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-r * A: the policy gradient, corrected for who sampled."""
    return -torch.exp(_log_ratio(logprobs, inputs)) * inputs["advantages"]


def ppo(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-min(r * A, clip(r, low, high) * A). Source: PPO, arXiv:1707.06347."""
    advantages = inputs["advantages"]
    log_ratio = _log_ratio(logprobs, inputs)
    ratio = torch.exp(log_ratio.detach())
    clipped = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    is_clipped = clipped * advantages < ratio * advantages
    # Where the clipped side is the minimum, r has no gradient; left in, an r that overflows would
    # make it 0 * inf.
    ratio = torch.exp(log_ratio.masked_fill(is_clipped, 0.0))
    return -torch.where(is_clipped, clipped * advantages, ratio * advantages)


def cispo(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-stopgrad(clip(r, low, high)) * lp * A. Source: MiniMax-M1, arXiv:2506.13585."""
    ratio = torch.exp(_log_ratio(logprobs, inputs)).detach()
    clipped = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    return -clipped * logprobs * inputs["advantages"]


def dro(logprobs: Tensor, inputs: Inputs, config: Config) -> Tensor:
    """-(lp * A - beta / 2 * (lp - q)^2). Source: DRO, arXiv:2405.19107."""
    penalty = 0.5 * config["beta"] * (logprobs - inputs["logprobs"]) ** 2
    return -(logprobs * inputs["advantages"] - penalty)


class LossSpec(msgspec.Struct, frozen=True):
    """A loss, the datum inputs it needs besides `target_tokens`, and its options."""

    fn: LossFn
    inputs: tuple[str, ...]
    defaults: dict[str, float] = {}
    optional: tuple[str, ...] = ()
    """Of `inputs`, those that are 1 everywhere when left out."""


_POLICY = ("logprobs", "advantages")
LOSSES: dict[str, LossSpec] = {
    "cross_entropy": LossSpec(cross_entropy, ("weights",), optional=("weights",)),
    "importance_sampling": LossSpec(importance_sampling, _POLICY),
    "ppo": LossSpec(ppo, _POLICY, {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}),
    "cispo": LossSpec(cispo, _POLICY, {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0}),
    "dro": LossSpec(dro, _POLICY, {"beta": 0.05}),
}


def get_loss(name: str) -> LossSpec:
    """The loss of that name.

    Raises:
        UnsupportedError: for losses that Tinker has and this engine refuses.
        UnknownNameError: for any other unknown name.
    """
    if name in LOSSES:
        return LOSSES[name]
    if name == "stable_reinforce":
        raise UnsupportedError(
            "loss_fn 'stable_reinforce': its formula is not published, so it cannot be reproduced "
            "here. Use 'ppo' or 'cispo', which correct for off-policy samples too."
        )
    if name == "gspo":
        raise UnsupportedError("loss_fn 'gspo': not supported yet. Use 'ppo' or 'cispo'.")
    raise UnknownNameError(f"loss_fn: expected a known loss; got {name!r}.{choices(name, LOSSES)}")


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
    return merged
