"""What a custom loss looks like: the type that clients and engines share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from tinker_rl.types import Datum

__all__ = ["CustomLoss"]

CustomLoss: TypeAlias = "Callable[[list[Datum], list[Tensor]], tuple[Tensor, dict[str, float]]]"
"""`fn(data, logprobs)` -> (scalar loss, metrics).

`logprobs[i]` holds the learner's log-probability of each target token of `data[i]`: float32, the
shape of its `target_tokens`, part of the graph. Any differentiable function of them is allowed.
"""
