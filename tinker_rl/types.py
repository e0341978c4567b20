"""The types of the Tinker API, as frozen msgspec structs.

Names, fields and defaults are those of the `tinker` SDK. One msgpack codec (`encode`, `decode`)
serves whatever stores or sends them; arrays travel as dtype, shape and bytes, and are read-only.
"""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.errors import ShapeError, UnsupportedError

if TYPE_CHECKING:
    import torch

__all__ = [
    "MASKED_LOGPROB",
    "AdamParams",
    "Checkpoint",
    "CheckpointType",
    "CheckpointsListResponse",
    "Cursor",
    "Datum",
    "EncodedTextChunk",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "GetServerCapabilitiesResponse",
    "LoadWeightsResponse",
    "LogprobList",
    "LoraConfig",
    "LossFnOutput",
    "ModelData",
    "ModelInput",
    "OptimStepResponse",
    "SampleResponse",
    "SampledSequence",
    "SamplingClientKind",
    "SamplingParams",
    "SaveWeightsForSamplerResponse",
    "SaveWeightsResponse",
    "StopReason",
    "SupportedModel",
    "TensorData",
    "TensorDtype",
    "TopkLogprobs",
    "TrainingRun",
    "TrainingRunsResponse",
    "WeightsInfoResponse",
    "decode",
    "encode",
]

StopReason: TypeAlias = Literal["stop", "length"]
TensorDtype: TypeAlias = Literal["float32", "int64"]
SamplingClientKind: TypeAlias = Literal["snapshot", "inflight"]
CheckpointType: TypeAlias = Literal["training", "sampler"]
Array: TypeAlias = npt.NDArray[Any]
T = TypeVar("T")

MASKED_LOGPROB = -99999.0
"""Filler of an empty cell in a `TopkLogprobs` matrix; its token id is 0."""

_DTYPE_OF_INPUT: dict[str, TensorDtype] = {"target_tokens": "int64"}
"""Fixed dtypes of `loss_fn_inputs`; every other key is float32."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A result. Awaiting it gives itself, so `await (await client.method_async())` always works."""

    def __await__(self) -> Generator[Any, Any, Self]:
        return self
        yield


# --------------------------------------------------------------------------------------- inputs


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
    """A dense tensor that crosses the API: a read-only, C-contiguous numpy array.

    Equality is identity; compare `to_numpy()` where values matter.
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
        """Copy a tensor to the host; bfloat16 and float16 widen to float32."""
        tensor = tensor.detach().cpu()
        return cls((tensor.float() if tensor.is_floating_point() else tensor).numpy())

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


def _tensor_data(key: str, value: Any) -> TensorData:
    """Coerce one loss input. Raises ShapeError when it is ragged or not numeric."""
    if isinstance(value, TensorData):
        data = value
    elif hasattr(value, "detach"):
        data = TensorData.from_torch(value)
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

    `loss_fn_inputs` takes arrays, tensors or lists; `target_tokens` becomes int64, every other key
    float32. Position i of each input belongs to the prediction made from input token i.
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


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to sample.

    `stop`: None stops at the model's end-of-sequence token; `[]` at nothing; a string or strings at
    the token that completes one of them; token ids at these (and not at end-of-sequence).
    """

    max_tokens: int | None = None
    """Most tokens to generate; None: up to the end of the context."""
    seed: int | None = None
    """Same seed and request, same tokens (up to rounding); samples of one request differ."""
    stop: str | Sequence[str | int] | None = None
    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = -1
    """-1: no limit."""
    top_p: float = 1.0


class AdamParams(msgspec.Struct, frozen=True, kw_only=True):
    """AdamW with decoupled weight decay; `grad_clip_norm` 0 means no clipping."""

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


class LoraConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which low-rank adapter to train. The scale of its product is 32 / rank."""

    rank: int = 32
    seed: int | None = None
    train_mlp: bool = True
    train_attn: bool = True
    train_unembed: bool = True


# -------------------------------------------------------------------------------------- results

LossFnOutput: TypeAlias = dict[str, TensorData]


class ForwardBackwardOutput(Response, frozen=True, kw_only=True, eq=False):
    """Per-datum outputs, in the order of the request, and metrics named `name:reduction`."""

    loss_fn_output_type: str = "ArrayRecord"
    loss_fn_outputs: list[LossFnOutput]
    metrics: dict[str, float] = {}


class OptimStepResponse(Response, frozen=True, kw_only=True):
    metrics: dict[str, float] | None = None


class SaveWeightsResponse(Response, frozen=True, kw_only=True):
    path: str


class SaveWeightsForSamplerResponse(Response, frozen=True, kw_only=True):
    path: str


class LoadWeightsResponse(Response, frozen=True, kw_only=True):
    path: str | None = None


class TopkLogprobs(msgspec.Struct, frozen=True, eq=False):
    """The most likely tokens at each position.

    Empty positions hold token 0 and logprob -99999.
    """

    token_ids: Array
    """int32, shape [positions, k]."""
    logprobs: Array
    """float32, shape [positions, k], most likely first."""

    def to_lists(self) -> list[list[tuple[int, float]] | None]:
        """One list of (token id, logprob) a position, None where nothing was computed."""
        rows = zip(self.token_ids.tolist(), self.logprobs.tolist(), strict=True)
        return [
            [pair for pair in zip(ids, logprobs, strict=True) if pair[1] != MASKED_LOGPROB] or None
            for ids, logprobs in rows
        ]


class SampledSequence(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One sampled sequence; its stop token, where there is one, is the last token."""

    stop_reason: StopReason
    tokens_np: Array
    """Token ids, int32, shape [T]."""
    logprobs_np: Array | None = None
    """Natural log-probability of each token under the distribution it was drawn from, float32,
    shape [T]."""
    topk_logprobs_np: TopkLogprobs | None = None
    sequence_id: str = ""

    @property
    def tokens(self) -> list[int]:
        """Token ids."""
        return self.tokens_np.tolist()

    @property
    def logprobs(self) -> list[float] | None:
        """Log-probability of each token."""
        return None if self.logprobs_np is None else self.logprobs_np.tolist()

    @property
    def topk_logprobs(self) -> list[list[tuple[int, float]] | None] | None:
        """(token id, logprob) pairs a position."""
        return None if self.topk_logprobs_np is None else self.topk_logprobs_np.to_lists()


class LogprobList(list[float | None]):
    """Logprobs of a prompt, None first. Awaiting it gives itself, like every result."""

    def __await__(self) -> Iterator[Any]:
        return self
        yield

    @classmethod
    def from_numpy(cls, logprobs: Array) -> LogprobList:
        """From float32 values in which NaN means not computed."""
        return cls(None if np.isnan(value) else float(value) for value in logprobs)


class SampleResponse(Response, frozen=True, kw_only=True, eq=False):
    """What a prompt was completed with."""

    sequences: list[SampledSequence]
    prompt_logprobs_np: Array | None = None
    """float32, shape [len(prompt)], NaN first and wherever none was asked for."""
    topk_prompt_logprobs_np: TopkLogprobs | None = None
    prompt_cache_hit_tokens: int = 0

    @property
    def prompt_logprobs(self) -> list[float | None] | None:
        """Untempered logprob of each prompt token, None at the first."""
        logprobs = self.prompt_logprobs_np
        return None if logprobs is None else LogprobList.from_numpy(logprobs)

    @property
    def topk_prompt_logprobs(self) -> list[list[tuple[int, float]] | None] | None:
        """(token id, logprob) pairs a prompt position."""
        topk = self.topk_prompt_logprobs_np
        return None if topk is None else topk.to_lists()


class SupportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A base model, and whether it can be had on this machine."""

    model_name: str
    max_context_length: int | None = None
    trainable: bool = True
    sampleable: bool = True
    unavailable_reason: str | None = None
    """Why asking for the model would fail here; None when it can be had, as far as is known."""


class GetServerCapabilitiesResponse(Response, frozen=True, kw_only=True):
    supported_models: list[SupportedModel]


class ModelData(msgspec.Struct, frozen=True, kw_only=True):
    arch: str | None = None
    model_name: str | None = None
    tokenizer_id: str | None = None


class GetInfoResponse(Response, frozen=True, kw_only=True):
    model_id: str
    model_data: ModelData
    is_lora: bool = True
    lora_rank: int | None = None
    model_name: str | None = None


class WeightsInfoResponse(Response, frozen=True, kw_only=True):
    base_model: str
    is_lora: bool = True
    lora_rank: int | None = None
    train_unembed: bool | None = None
    train_mlp: bool | None = None
    train_attn: bool | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    checkpoint_id: str
    """`weights/<name>` or `sampler_weights/<name>`."""
    checkpoint_type: CheckpointType
    time: datetime
    tinker_path: str
    size_bytes: int | None = None
    public: bool = False
    user_metadata: dict[str, str] | None = None
    expires_at: datetime | None = None


class TrainingRun(Response, frozen=True, kw_only=True):
    training_run_id: str
    base_model: str
    model_owner: str
    is_lora: bool
    last_request_time: datetime
    corrupted: bool = False
    lora_rank: int | None = None
    last_checkpoint: Checkpoint | None = None
    last_sampler_checkpoint: Checkpoint | None = None
    user_metadata: dict[str, str] | None = None


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    offset: int
    limit: int
    total_count: int


class TrainingRunsResponse(Response, frozen=True, kw_only=True):
    training_runs: list[TrainingRun]
    cursor: Cursor


class CheckpointsListResponse(Response, frozen=True, kw_only=True):
    checkpoints: list[Checkpoint]
    cursor: Cursor | None = None


# ---------------------------------------------------------------------------------------- codec


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
