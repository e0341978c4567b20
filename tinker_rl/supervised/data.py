"""Conversations to training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from tinker_rl.errors import RequestError, ShapeError, choices
from tinker_rl.renderers import Message, Renderer, TrainOnWhat
from tinker_rl.types import Datum, ModelInput, TensorData

__all__ = ["conversation_to_datum", "datum_from_model_input_weights"]

Reduction: TypeAlias = Literal["none", "mean"]


def datum_from_model_input_weights(
    model_input: ModelInput,
    weights: Any,
    max_length: int | None = None,
    reduction: Reduction = "none",
) -> Datum:
    """A datum for `cross_entropy`: each token predicts the next.

    Args:
        model_input: The whole sequence, T tokens, T >= 2.
        weights: Weight of predicting each of its tokens, an array or a sequence, shape [T]; the
            first is never used.
        max_length: Most tokens to keep, from the start; None: all.
        reduction: `none` keeps the weights, so the loss is a sum over tokens; `mean` divides them
            by their sum, so long examples count no more than short ones.
    Returns:
        T - 1 input tokens, `target_tokens` (int64) and `weights` (float32), each of shape [T - 1].
    Raises:
        ShapeError: if the weights do not fit the tokens, or there are fewer than two tokens.
        RequestError: if a weight is not finite, or if cutting left no token to train on.
    """
    where = "datum_from_model_input_weights"
    tokens = model_input.to_ints()
    weight_T = np.asarray(weights, dtype=np.float32)
    if weight_T.shape != (len(tokens),):
        raise ShapeError(
            f"{where}: expected weights of shape [{len(tokens)}], one per token; "
            f"got {list(weight_T.shape)}. Pass both as build_supervised_example gave them."
        )
    if not np.isfinite(weight_T).all():
        raise RequestError(
            f"{where}: expected finite weights; got {weight_T[~np.isfinite(weight_T)][0]}. "
            "Look at what they were computed from."
        )
    if reduction not in ("none", "mean"):
        raise RequestError(
            f"{where}: expected a reduction; got {reduction!r}."
            f"{choices(str(reduction), get_args(Reduction))}"
        )
    end = len(tokens) if max_length is None else min(max_length, len(tokens))
    if end < 2:
        raise ShapeError(
            f"{where}: expected two tokens or more, to predict one from another; got {len(tokens)} "
            f"tokens and max_length={max_length}. Pass a longer sequence, or raise max_length."
        )
    trained_T = np.flatnonzero(weight_T[1:]) + 1
    if trained_T.size and trained_T[0] >= end:
        raise RequestError(
            f"{where}: expected max_length > {trained_T[0]}, the tokens before the first that is "
            f"trained on; got {max_length}. Raise max_length, or drop the example."
        )
    weight_T = weight_T[1:end]
    if reduction == "mean" and weight_T.sum() > 0:
        weight_T = weight_T / weight_T.sum()
    return Datum(
        model_input=ModelInput.from_ints(tokens[: end - 1]),
        loss_fn_inputs={
            "target_tokens": TensorData.from_numpy(np.array(tokens[1:end], dtype=np.int64)),
            "weights": TensorData.from_numpy(weight_T),
        },
    )


def conversation_to_datum(
    conversation: Sequence[Message],
    renderer: Renderer,
    max_length: int | None,
    train_on_what: TrainOnWhat = TrainOnWhat.ALL_ASSISTANT_MESSAGES,
    reduction: Reduction = "mean",
) -> Datum:
    """A datum for `cross_entropy` from a conversation.

    Args:
        conversation: Messages, oldest first.
        renderer: Renderer of the model's chat format.
        max_length: Most tokens to keep, from the start; None: all.
        train_on_what: Which turns carry weight.
        reduction: As for `datum_from_model_input_weights`; by default an example's weights sum
            to 1.
    Raises:
        RequestError: if the conversation is malformed, has no turn to train on, or none within
            `max_length`.
    """
    model_input, weights = renderer.build_supervised_example(conversation, train_on_what)
    return datum_from_model_input_weights(model_input, weights, max_length, reduction)
