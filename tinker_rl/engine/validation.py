"""Checks a training request before any of it is computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from tinker_rl.engine.prefix_tree import IntArray
from tinker_rl.errors import RequestError, ShapeError, UnknownNameError, choices
from tinker_rl.types import Datum
from tinker_rl.types.inputs import Array

__all__ = ["check_data", "check_tokens"]


def check_tokens(where: str, tokens: Sequence[int] | Array, vocab_size: int) -> None:
    """Raise RequestError when a token id lies outside the vocabulary."""
    array = np.asarray(tokens)
    if not array.size:
        raise ShapeError(f"{where}: expected at least one token; got none.")
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
) -> list[IntArray]:
    """The model inputs of datums that a loss can be computed on, int64, shape [T] each.

    Args:
        required: Keys of `loss_fn_inputs` besides `target_tokens` that every datum must have.
        optional: Keys that it may have.
    Raises:
        RequestError: of the first datum, or value, that it cannot be computed on.
    """
    if not data:
        raise ShapeError("data: expected at least one Datum; got an empty list.")
    known = {"target_tokens", *required, *optional}
    sequences: list[IntArray] = []
    for index, datum in enumerate(data):
        where = f"data[{index}]"
        if not isinstance(datum, Datum):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ShapeError(
                f"{where}: expected a Datum; got {type(datum).__name__}. Make one of the model's "
                "input and the inputs of the loss."
            )
        tokens = datum.model_input.to_numpy()
        check_tokens(f"{where}.model_input", tokens, vocab_size)
        if len(tokens) > context:
            raise RequestError(
                f"{where}.model_input: expected at most {context} tokens, the model's context; got "
                f"{len(tokens)}. Shorten or split the sequence."
            )
        _check_inputs(where, datum, len(tokens), known, required, allow_other_inputs)
        check_tokens(
            f"{where}.loss_fn_inputs['target_tokens']",
            datum.loss_fn_inputs["target_tokens"].array.ravel(),
            vocab_size,
        )
        sequences.append(tokens)
    return sequences


def _check_inputs(
    where: str,
    datum: Datum,
    length: int,
    known: Collection[str],
    required: Sequence[str],
    allow_other_inputs: bool,
) -> None:
    inputs = datum.loss_fn_inputs
    if "target_tokens" not in inputs:
        raise ShapeError(
            f"{where}.loss_fn_inputs: expected 'target_tokens'; got {sorted(inputs)}. Add the "
            "token that each position should predict."
        )
    shape = inputs["target_tokens"].shape
    if len(shape) not in (1, 2) or shape[0] != length or 0 in shape:
        raise ShapeError(
            f"{where}.loss_fn_inputs['target_tokens']: expected shape [{length}], one value "
            f"for each token of model_input, or [{length}, K] for several; got {shape}. Pad with "
            "zeros, or cut both."
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
        if key in known and tensor.shape != shape:
            raise ShapeError(
                f"{where}.loss_fn_inputs[{key!r}]: expected shape {shape}, one value for each "
                f"target token; got {tensor.shape}. Pad with zeros, or cut both."
            )
        bad = np.flatnonzero(~np.isfinite(tensor.array.ravel()))
        if bad.size:
            raise RequestError(
                f"{where}.loss_fn_inputs[{key!r}]: expected finite values; got "
                f"{tensor.array.ravel()[bad[0]]} at position {bad[0]}. Find where it was made: "
                "nothing of this request was applied."
            )
