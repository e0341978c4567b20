"""What a loss looks like, and which names there are: what clients and engines share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from tinker_rl.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from tinker_rl.types import Datum

__all__ = ["CustomLoss", "LossFn", "LossSpec", "register_loss", "registered_losses"]

CustomLoss: TypeAlias = "Callable[[list[Datum], list[Tensor]], tuple[Tensor, dict[str, float]]]"
"""`fn(data, logprobs)` -> (scalar loss, metrics).

`logprobs[i]` holds the learner's log-probability of each target token of `data[i]`: float32, the
shape of its `target_tokens`, part of the graph. Any differentiable function of them is allowed.
"""

LossFn: TypeAlias = "Callable[[Tensor, Mapping[str, Tensor], Mapping[str, float]], Tensor]"
"""`fn(logprobs, inputs, config)` -> loss of each token, float32, shape [N]; their sum is the loss.

`logprobs` are the learner's, float32, shape [N]: of target tokens of several datums, and not always
of all in a request. `inputs` holds the datums' loss inputs in the same shape, and `sequence`, of
int64: which datum each token belongs to. `config` holds the request's options, or their defaults.
"""


class LossSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A loss, the datum inputs it needs besides `target_tokens`, and its options."""

    fn: LossFn
    inputs: tuple[str, ...]
    defaults: Mapping[str, float] = {}
    optional: tuple[str, ...] = ()
    """Of `inputs`, those that are 1 everywhere when left out."""
    scope: Literal["token", "sequence"] = "token"
    """What the loss of a token depends on: on nothing but that token, or on its whole datum."""
    mask: str | None = None
    """An input at whose zeros a token has neither loss nor gradient."""


_registered: dict[str, LossSpec] = {}


def register_loss(
    name: str,
    fn: LossFn,
    *,
    inputs: Sequence[str] = ("logprobs", "advantages"),
    defaults: Mapping[str, float] | None = None,
    optional: Sequence[str] = (),
    scope: Literal["token", "sequence"] = "token",
    mask: str | None = None,
) -> None:
    """Let requests to engines of this process name `fn` as their `loss_fn`.

    Such a loss costs what a built-in one does: it is computed in the pass that makes the logprobs.
    A name that is registered again stands for the new function from then on.

    Args:
        fn: See `LossFn`. It runs in the engine's thread.
        inputs: Keys of `loss_fn_inputs` that every datum must have, besides `target_tokens`.
        defaults: Options that `loss_fn_config` may set, all of them numbers.
        optional: Of `inputs`, those that a datum may leave out: they are 1 everywhere then.
        scope: `token` if the loss of a token depends on that token alone; `sequence` if on others
            of its datum too. With `sequence` a datum is never split between calls of `fn`.
        mask: The input, if there is one, at whose zeros the loss and its gradient are 0. Such
            positions then cost no backward pass through the unembedding.
    Raises:
        ConfigError: for the name of a built-in loss, or arguments that contradict each other.
    """
    spec = LossSpec(
        fn=fn,
        inputs=tuple(inputs),
        defaults=dict(defaults or {}),
        optional=tuple(optional),
        scope=scope,
        mask=mask,
    )
    if not name or name in BUILT_IN:
        raise ConfigError(
            f"register_loss: expected a name of your own; got {name!r}, which is built in. "
            "Choose another."
        )
    if scope not in ("token", "sequence"):
        raise ConfigError(f"register_loss: expected scope 'token' or 'sequence'; got {scope!r}.")
    for key in (*spec.optional, *([mask] if mask is not None else [])):
        if key not in spec.inputs:
            raise ConfigError(
                f"register_loss: expected optional and mask to name inputs {list(spec.inputs)}; "
                f"got {key!r}. Add it to inputs."
            )
    _registered[name] = spec


def registered_losses() -> Mapping[str, LossSpec]:
    """What `register_loss` was told, by name."""
    return _registered


BUILT_IN = (
    "cispo",
    "cross_entropy",
    "custom",
    "dro",
    "gspo",
    "importance_sampling",
    "ppo",
    "stable_reinforce",
)
"""Names that the Tinker API gives a meaning to."""
