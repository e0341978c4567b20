"""Checks a training request before any of it is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinker_rl.errors import RequestError, ShapeError, UnknownNameError, UnsupportedError, choices
from tinker_rl.types import Datum

__all__ = ["check_data", "check_tokens"]


def check_tokens(where: str, tokens: Sequence[int], vocab_size: int) -> None:
    """Raise RequestError when a token id lies outside the vocabulary."""
    if not tokens:
        raise ShapeError(f"{where}: expected at least one token; got none.")
    array = np.asarray(tokens)
    bad = np.flatnonzero((array < 0) | (array >= vocab_size))
    if bad.size:
        raise RequestError(
            f"{where}: expected token ids from 0 to {vocab_size - 1}; got {array[bad[0]]} at "
            f"position {bad[0]}. Use the tokenizer of the base model."
        )


def check_data(
    data: Sequence[Datum],
    required: Sequence[str],
    optional: Sequence[str],
    *,
    vocab_size: int,
    context: int,
    allow_other_inputs: bool = False,
) -> None:
    """Raise the error of the first datum that a loss cannot be computed on.

    Args:
        required: Keys of `loss_fn_inputs` besides `target_tokens` that every datum must have.
        optional: Keys that it may have.
    """
    if not data:
        raise ShapeError("data: expected at least one Datum; got an empty list.")
    known = {"target_tokens", *required, *optional}
    for index, datum in enumerate(data):
        where = f"data[{index}]"
        if not isinstance(datum, Datum):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ShapeError(
                f"{where}: expected a Datum; got {type(datum).__name__}. Make one of the model's "
                "input and the inputs of the loss."
            )
        length = datum.model_input.length
        check_tokens(f"{where}.model_input", datum.model_input.to_ints(), vocab_size)
        if length > context:
            raise RequestError(
                f"{where}.model_input: expected at most {context} tokens, the model's context; got "
                f"{length}. Shorten or split the sequence."
            )
        inputs = datum.loss_fn_inputs
        if "target_tokens" not in inputs:
            raise ShapeError(
                f"{where}.loss_fn_inputs: expected 'target_tokens'; got {sorted(inputs)}. "
                "Add the token that each position should predict."
            )
        if inputs["target_tokens"].array.ndim == 2:
            raise UnsupportedError(
                f"{where}.loss_fn_inputs['target_tokens']: expected shape [{length}]; got "
                f"{inputs['target_tokens'].shape}. Top-k targets are not supported yet."
            )
        for key in required:
            if key not in inputs:
                raise ShapeError(
                    f"{where}.loss_fn_inputs: expected {key!r}, which this loss needs; got "
                    f"{sorted(inputs)}. Add one value a position."
                )
        for key, tensor in inputs.items():
            if key not in known and not allow_other_inputs:
                raise UnknownNameError(
                    f"{where}.loss_fn_inputs: expected inputs of this loss; got {key!r}."
                    f"{choices(key, known)}"
                )
            if key in known and tensor.shape != [length]:
                raise ShapeError(
                    f"{where}.loss_fn_inputs[{key!r}]: expected shape [{length}], one value for "
                    f"each token of model_input; got {tensor.shape}. Pad with zeros, or cut both."
                )
            bad = np.flatnonzero(~np.isfinite(tensor.array.ravel()))
            if bad.size:
                raise RequestError(
                    f"{where}.loss_fn_inputs[{key!r}]: expected finite values; got "
                    f"{tensor.array.ravel()[bad[0]]} at position {bad[0]}. Find where it was made: "
                    "nothing of this request was applied."
                )
        check_tokens(
            f"{where}.loss_fn_inputs['target_tokens']", inputs["target_tokens"].tolist(), vocab_size
        )
