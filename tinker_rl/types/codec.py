"""One msgpack codec for every struct of the package."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np

T = TypeVar("T")


__all__ = ["decode", "encode"]


def _enc_hook(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
    raise TypeError(f"tinker_rl.types.encode: cannot store a {type(value).__name__}.")


def _dec_hook(kind: type[Any], value: Any) -> Any:
    if kind is np.ndarray or getattr(kind, "__origin__", None) is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape)
    raise TypeError(f"tinker_rl.types.decode: cannot read a {kind}.")


def encode(value: Any) -> bytes:
    """msgpack of any struct of this package, arrays included (NaN and infinities too)."""
    return msgspec.msgpack.encode(value, enc_hook=_enc_hook)


def decode(data: bytes, kind: type[T]) -> T:
    """The inverse of `encode`.

    Raises:
        msgspec.ValidationError: if `data` does not describe a `kind`; the message has the path.
    """
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_dec_hook)
