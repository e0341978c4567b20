"""What is long in a record, as extension types of msgpack: tokens, logprobs, arrays.

An observation is stored as what it shares with the tokens that came just before it in the record,
or with the record's first observation, and the rest. So the turns of an episode grow by their new
tokens only, and the members of a group share their prompt. What is shared follows from the order of
the tokens in the record alone, not from the fields that they stand in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.types import ModelInput

__all__ = ["Packer", "Unpacker"]

Array: TypeAlias = npt.NDArray[Any]

OBSERVATION, ACTION, FLOATS, ARRAY, LARGE_INT = 1, 2, 3, 4, 5
"""Codes of the extension types."""


_AS_THEY_ARE = frozenset({bool, float, type(None)})
"""Types of which msgpack has every value."""


class _Seen:
    """The tokens of a record so far, as far as what follows may share them."""

    def __init__(self) -> None:
        self.last = np.zeros(0, np.int64)
        """The last observation, and the actions after it."""
        self.first: Array | None = None
        """The first observation of the record."""

    def observe(self, tokens: Array) -> None:
        self.last = tokens
        if self.first is None:
            self.first = tokens

    def act(self, tokens: Array) -> None:
        self.last = np.concatenate([self.last, tokens])

    def base(self, is_first: bool) -> Array:
        return self.last if self.first is None or not is_first else self.first


def _num_shared(one: Array, other: Array) -> int:
    """Length of the common beginning."""
    length = min(one.size, other.size)
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length


# -------------------------------------------------------------------------------------- packing


class Packer:
    """Turns one record into what msgpack takes."""

    def __init__(self) -> None:
        self._seen = _Seen()

    def pack(self, value: Any) -> Any:
        """Any value as msgpack's own types. Fields are visited in the order they are stored in."""
        kind = type(value)
        if kind in _AS_THEY_ARE or (kind is int and -(2**63) <= value < 2**64):
            return value
        if isinstance(value, ModelInput):
            return self._observation(value)
        if isinstance(value, msgspec.Struct):
            return self._struct(value)
        if isinstance(value, list | tuple):
            return [self.pack(item) for item in value]
        if isinstance(value, np.ndarray):
            return _extension(ARRAY, value.dtype.str, value.shape, value.tobytes())
        if isinstance(value, Mapping):
            return {self.pack(key): self.pack(item) for key, item in value.items()}
        return _scalar(value)

    def _struct(self, value: msgspec.Struct) -> dict[str, Any]:
        packed, names = _form(type(value))
        packed = packed.copy()
        is_action = isinstance(value, TokensWithLogprobs)
        for name, stored_name in names:
            item = getattr(value, name)
            if is_action and name == "tokens":
                packed[stored_name] = self._action(item)
            elif is_action and name == "maybe_logprobs" and item is not None:
                packed[stored_name] = _floats(item)
            else:
                packed[stored_name] = self.pack(item)
        return packed

    def _observation(self, observation: ModelInput) -> Any:
        try:
            tokens = observation.to_numpy()
        except OverflowError:  # no token of any vocabulary, but an environment may give it
            return self._struct(observation)
        is_first = False
        num_shared = _num_shared(tokens, self._seen.last)
        if num_shared < self._seen.last.size:
            with_first = _num_shared(tokens, self._seen.base(is_first=True))
            is_first = with_first > num_shared
            num_shared = max(num_shared, with_first)
        self._seen.observe(tokens)
        return _extension(OBSERVATION, is_first, num_shared, *_ints(tokens[num_shared:]))

    def _action(self, tokens: list[int]) -> Any:
        try:
            array = np.array(tokens, np.int64)
        except OverflowError:
            return self.pack(tokens)
        self._seen.act(array)
        return _extension(ACTION, *_ints(array))


@lru_cache(maxsize=256)
def _form(kind: type[msgspec.Struct]) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """The tag of a struct, and its fields with the names that they are stored under."""
    config = kind.__struct_config__
    tag = {config.tag_field: config.tag} if config.tag_field else {}
    return tag, tuple(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))


def _scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):  # half a surrogate pair, as in a file's name, is no UTF-8
        return value.encode(errors="replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return msgspec.msgpack.Ext(LARGE_INT, str(value).encode())
    return value


def _floats(values: list[float]) -> Any:
    exact = np.array(values, np.float64)
    with np.errstate(over="ignore"):
        short = exact.astype("<f4")
    is_lossless = short.astype(np.float64).tobytes() == exact.tobytes()
    return _extension(FLOATS, is_lossless, (short if is_lossless else exact).tobytes())


def _ints(tokens: Array) -> tuple[bool, bytes]:
    """Whether they are short (int32), and the bytes."""
    short = tokens.astype("<i4")
    is_short = bool((short == tokens).all())
    return is_short, (short if is_short else tokens.astype("<i8")).tobytes()


def _extension(code: int, *parts: Any) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(parts))


# ------------------------------------------------------------------------------------ unpacking


class Unpacker:
    """Gives the value of each extension of one record, in the order they are stored in."""

    def __init__(self) -> None:
        self._seen = _Seen()

    def unpack(self, code: int, data: memoryview) -> Any:
        if code == LARGE_INT:
            return int(bytes(data))
        parts = msgspec.msgpack.decode(data)
        if code == OBSERVATION:
            return self._observation(*parts)
        if code == ACTION:
            tokens = _read_ints(*parts)
            self._seen.act(tokens)
            return tokens.tolist()
        if code == FLOATS:
            is_short, raw = parts
            return np.frombuffer(raw, "<f4" if is_short else "<f8").tolist()
        if code == ARRAY:
            dtype, shape, raw = parts
            return np.frombuffer(raw, np.dtype(dtype)).reshape(shape)
        raise ValueError(f"expected an extension type of 1 to 5; got {code}")

    def _observation(self, is_first: bool, num_shared: int, is_short: bool, raw: bytes) -> Any:
        shared = self._seen.base(is_first)[:num_shared]
        tokens = np.concatenate([shared, _read_ints(is_short, raw)])
        self._seen.observe(tokens)
        return {"chunks": [{"type": "encoded_text", "tokens": tokens.tolist()}]}


def _read_ints(is_short: bool, raw: bytes) -> Array:
    return np.frombuffer(raw, "<i4" if is_short else "<i8").astype(np.int64)
