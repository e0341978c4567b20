"""Which loss corrects for tokens that other weights sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinker_rl.errors import ConfigError

__all__ = ["TRUNCATED_IMPORTANCE_SAMPLING", "resolve_loss"]

TRUNCATED_IMPORTANCE_SAMPLING = "truncated_importance_sampling"
DEFAULT_MAX_RATIO = 2.0


def resolve_loss(
    loss_fn: str | None, config: Mapping[str, Any] | None, is_off_policy: bool
) -> tuple[str, dict[str, Any] | None]:
    """The learner's loss and its options, as the engine knows them.

    `truncated_importance_sampling`, with the option `max_ratio` (C, 2 by default), has the gradient
    -min(r, C) * A * grad log p of each token, with r = p / q of learner and sampler: the correction
    of `importance_sampling`, whose variance is bounded by C. That is `cispo` without a lower bound.

    Args:
        loss_fn: A loss of the engine, `truncated_importance_sampling`, or None: `ppo` for a run
            that is off-policy, whose clipping bounds how far one batch moves the policy, and
            `importance_sampling` for one that is not.
        config: Options of that loss.
        is_off_policy: Whether tokens may be older than the weights they train.
    Raises:
        ConfigError: if truncated importance sampling is given options that it does not have, or a
            `max_ratio` that is not a finite number above 0.
    Source:
        IMPALA, arXiv:1802.01561 (truncated importance weights).
    """
    options = None if config is None else dict(config)
    if loss_fn is None:
        return "ppo" if is_off_policy else "importance_sampling", options
    if loss_fn != TRUNCATED_IMPORTANCE_SAMPLING:
        return loss_fn, options
    return "cispo", {"clip_low_threshold": 0.0, "clip_high_threshold": _max_ratio(options or {})}


def _max_ratio(options: dict[str, Any]) -> float:
    unknown = sorted(set(options) - {"max_ratio"})
    if unknown:
        raise ConfigError(
            f"loss_fn_config: expected only max_ratio with {TRUNCATED_IMPORTANCE_SAMPLING}; "
            f"got {', '.join(unknown)}. Leave the rest out, or choose another loss."
        )
    given = options.get("max_ratio", DEFAULT_MAX_RATIO)
    try:
        ratio = float(given)
    except (TypeError, ValueError):
        ratio = float("nan")
    if not 0 < ratio < float("inf"):
        raise ConfigError(
            f"loss_fn_config['max_ratio']: expected a finite number above 0; got {given!r}. It "
            "bounds the ratio of learner to sampler: 2 lets a token count twice at most."
        )
    return ratio
