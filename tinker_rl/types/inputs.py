"""What a model reads and trains on: tokens, tensors, datums."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.errors import ShapeError, UnsupportedError

if TYPE_CHECKING:
    import torch


__all__ = ["Array", "Datum", "EncodedTextChunk", "ModelInput", "TensorData", "TensorDtype"]

TensorDtype: TypeAlias = Literal["float32", "int64"]
Array: TypeAlias = npt.NDArray[Any]

_DTYPE_OF_INPUT: dict[str, TensorDtype] = {"target_tokens": "int64"}
"""Fixed dtypes of `loss_fn_inputs`; every other key is float32."""


class EncodedTextChunk(msgspec.Struct, frozen=True, tag="encoded_text"):
    """A run of token ids."""

    tokens: tuple[int, ...]
    """Token ids, in order."""

    def __post_init__(self) -> None:
        try:
            tokens = tuple(map(operator.index, self.tokens))  # numpy's integers become Python's
        except TypeError as error:
            raise ShapeError(
                f"EncodedTextChunk.tokens: expected token ids; got {self.tokens!r:.80} ({error}). "
                "Pass the integers that a tokenizer gives."
            ) from error
        msgspec.structs.force_setattr(self, "tokens", tokens)

    @property
    def length(self) -> int:
        """Context positions that the chunk takes."""
        return len(self.tokens)


class ModelInput(msgspec.Struct, frozen=True):
    """What a model reads: chunks of tokens, in order."""

    chunks: tuple[EncodedTextChunk, ...]

    def __post_init__(self) -> None:
        chunks = tuple(self.chunks)
        for chunk in chunks:
            if not isinstance(chunk, EncodedTextChunk):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UnsupportedError(
                    f"ModelInput.chunks: expected EncodedTextChunk values; got "
                    f"{type(chunk).__name__}. Images and audio are not supported here."
                )
        msgspec.structs.force_setattr(self, "chunks", chunks)

    @classmethod
    def from_ints(cls, tokens: Sequence[int]) -> ModelInput:
        """One chunk of the given token ids."""
        return cls((EncodedTextChunk(tuple(tokens)),))

    @classmethod
    def empty(cls) -> ModelInput:
        """No chunk at all."""
        return cls(())

    def to_ints(self) -> list[int]:
        """All token ids, in order."""
        return [token for chunk in self.chunks for token in chunk.tokens]

    def to_numpy(self) -> Array:
        """All token ids, in order, int64, shape [T]."""
        parts = [np.array(chunk.tokens, np.int64) for chunk in self.chunks]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    @property
    def length(self) -> int:
        """Number of tokens."""
        return sum(len(chunk.tokens) for chunk in self.chunks)

    def append(self, chunk: EncodedTextChunk) -> ModelInput:
        """A new input with one chunk more."""
        return ModelInput((*self.chunks, chunk))

    def append_int(self, token: int) -> ModelInput:
        """A new input with one token more."""
        return self.append(EncodedTextChunk((token,)))


class TensorData(msgspec.Struct, frozen=True, eq=False):
    """A tensor that crosses the API: a read-only, C-contiguous numpy array.

    Sparse ones are made dense when they come in: what a cell that is not listed holds, `pad_value`,
    is a token or a weight like any other. Equality is identity; compare `to_numpy()` where values
    matter.
    """

    array: Array
    """float32 or int64, any shape."""

    def __post_init__(self) -> None:
        array = np.ascontiguousarray(self.array)
        if array.ndim != np.ndim(self.array):  # ascontiguousarray lifts scalars to one dimension
            array = array.reshape(np.shape(self.array))
        wanted = np.float32 if array.dtype.kind == "f" else np.int64
        if array.dtype.kind not in "fiub":
            raise ShapeError(
                f"TensorData: expected numbers; got dtype {array.dtype}. "
                "Pass a rectangular array of floats or integers."
            )
        if array.dtype != wanted:
            with np.errstate(over="ignore"):  # too large for float32 is infinite, refused later
                array = array.astype(wanted)
        if array.flags.writeable:
            # A view is locked, not the caller's own array.
            array = array.view()
            array.flags.writeable = False
        msgspec.structs.force_setattr(self, "array", array)

    @classmethod
    def from_numpy(cls, array: Array) -> TensorData:
        """Wrap an array, without a copy where its dtype is float32 or int64 already."""
        return cls(array)

    @classmethod
    def from_torch(cls, tensor: torch.Tensor) -> TensorData:
        """Copy a tensor to the host, dense; bfloat16 and float16 widen to float32."""
        tensor = tensor.detach().cpu().to_dense()
        return cls((tensor.float() if tensor.is_floating_point() else tensor).numpy())

    @classmethod
    def from_torch_sparse(cls, tensor: torch.Tensor, pad_value: int = 0) -> TensorData:
        """As `from_torch`: sparse ones are shorter on a wire, which there is none of here."""
        return cls.from_torch(tensor)

    @classmethod
    def from_sparse_csr(
        cls,
        values: Any,
        crow_indices: Any,
        col_indices: Any,
        shape: Sequence[int],
        pad_value: int = 0,
    ) -> TensorData:
        """A matrix of which only some cells are listed, in compressed rows.

        Args:
            values: The cells that are listed, row by row.
            crow_indices: Where each row begins in `values`, and where the last one ends.
            col_indices: Column of each listed cell.
            pad_value: What the others hold.
        Raises:
            ShapeError: if the indices are not those of a matrix of that shape.
        """
        return cls(_dense(values, crow_indices, col_indices, shape, pad_value))

    @property
    def sparse_crow_indices(self) -> None:
        """None: it is dense."""
        return

    @property
    def sparse_col_indices(self) -> None:
        """None: it is dense."""
        return

    @property
    def dtype(self) -> TensorDtype:
        """`float32` or `int64`."""
        return "float32" if self.array.dtype.kind == "f" else "int64"

    @property
    def shape(self) -> list[int]:
        """Length of each axis."""
        return list(self.array.shape)

    @property
    def data(self) -> list[Any]:
        """The values, flat, as Python numbers."""
        return self.array.ravel().tolist()

    def to_numpy(self) -> Array:
        """The read-only array itself."""
        return self.array

    def to_torch(self) -> torch.Tensor:
        """A tensor of the same values in memory of its own."""
        import torch

        return torch.tensor(self.array)

    def tolist(self) -> list[Any]:
        """Nested Python lists of the values."""
        return self.array.tolist()


def _dense(
    values: Any, crow_indices: Any, col_indices: Any, shape: Sequence[int], pad_value: int
) -> Array:
    where = "TensorData.from_sparse_csr"
    listed = np.asarray(values).ravel()
    starts, columns = (np.asarray(x, np.int64).ravel() for x in (crow_indices, col_indices))
    if len(shape) != 2 or len(starts) != shape[0] + 1:
        raise ShapeError(
            f"{where}: expected shape [N, K] and N + 1 row indices; got {list(shape)} and "
            f"{len(starts)}. Pass the dense shape."
        )
    counts = np.diff(starts)
    if starts[0] != 0 or (counts < 0).any() or not starts[-1] == len(listed) == len(columns):
        raise ShapeError(
            f"{where}: expected row indices that rise from 0 to the number of values; got "
            f"{starts.tolist()!r:.80} for {len(listed)} values and {len(columns)} columns."
        )
    if columns.size and not 0 <= columns.min() <= columns.max() < shape[1]:
        raise ShapeError(
            f"{where}: expected columns from 0 to {shape[1] - 1}; got {columns.min()} to "
            f"{columns.max()}."
        )
    dense = np.full(tuple(shape), pad_value, listed.dtype)
    dense[np.repeat(np.arange(shape[0]), counts), columns] = listed
    return dense


def _tensor_data(key: str, value: Any) -> TensorData:
    """Coerce one loss input. Raises ShapeError when it is ragged or not numeric."""
    if isinstance(value, TensorData):
        data = value
    elif hasattr(value, "detach"):
        data = TensorData.from_torch(value)
    elif hasattr(value, "to_numpy"):  # the SDK's, dense or sparse, among others
        data = TensorData(value.to_numpy())
    else:
        try:
            data = TensorData(np.asarray(value))
        except ValueError as error:
            raise ShapeError(
                f"Datum.loss_fn_inputs[{key!r}]: expected a rectangular array of numbers; got "
                f"{type(value).__name__} that numpy refuses ({error}). Pad or fix the rows."
            ) from error
    wanted = _DTYPE_OF_INPUT.get(key, "float32")
    if data.dtype == wanted:
        return data
    array = data.array
    if wanted == "int64" and not np.all((np.abs(array) < 2**62) & (array == np.floor(array))):
        raise ShapeError(
            f"Datum.loss_fn_inputs[{key!r}]: expected integers (int64); got float32 values that "
            "are none. Pass token ids."
        )
    return TensorData(array.astype(wanted))


class Datum(msgspec.Struct, frozen=True, eq=False):
    """One training sequence: the model's input and what the loss needs at each of its positions.

    `loss_fn_inputs` takes arrays, tensors or lists, dense or sparse (torch's, or the SDK's in
    compressed rows); `target_tokens` becomes int64, every other key float32. Position i of each
    input belongs to the prediction made from input token i.
    """

    model_input: ModelInput
    loss_fn_inputs: dict[str, TensorData] = {}

    if TYPE_CHECKING:  # what may be passed is wider than what is kept

        def __init__(
            self, model_input: ModelInput, loss_fn_inputs: Mapping[str, Any] = ...
        ) -> None: ...

    def __post_init__(self) -> None:
        coerced = {key: _tensor_data(key, value) for key, value in self.loss_fn_inputs.items()}
        msgspec.structs.force_setattr(self, "loss_fn_inputs", coerced)
