"""What the engine's process and the process of vLLM tell each other: msgpack behind a length."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import msgspec
from anyio.abc import ByteReceiveStream
from anyio.streams.buffered import BufferedByteReceiveStream

from tinker_rl.engine.samplers.base import SampleJob
from tinker_rl.types import SampleResponse
from tinker_rl.types.codec import decode, encode

__all__ = [
    "Answered",
    "Cancel",
    "Command",
    "Engine",
    "Interrupt",
    "Load",
    "Loaded",
    "Messages",
    "Open",
    "Opened",
    "Ping",
    "Pong",
    "Refused",
    "Report",
    "Sample",
    "Unload",
    "frame",
]

T = TypeVar("T")

_LENGTH_BYTES = 4


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """How vLLM is to be built."""

    model: str
    """Folder, or name on the hub."""
    dtype: str
    max_model_len: int
    max_loras: int
    max_lora_rank: int
    """0: without adapters."""
    max_running: int
    max_step_tokens: int | None
    tensor_parallel_size: int
    memory_share: float | None
    kv_cache_bytes: int | None
    block_size: int | None
    eager: bool


# ------------------------------------------------------------------------------------- to vLLM


class Open(msgspec.Struct, frozen=True, tag=True):
    """Build the engine; the first message."""

    engine: Engine


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load an adapter folder under a number that was never used before."""

    number: int
    name: str
    folder: str


class Unload(msgspec.Struct, frozen=True, tag=True):
    number: int


class Sample(msgspec.Struct, frozen=True, tag=True):
    job: SampleJob
    adapter: Load | None
    """Weights to sample from, loaded before; None is the base model."""


class Cancel(msgspec.Struct, frozen=True, tag=True):
    job_id: int


class Interrupt(msgspec.Struct, frozen=True, tag=True):
    """End a job now, and answer with what it has so far."""

    job_id: int


class Ping(msgspec.Struct, frozen=True, tag=True):
    number: int


Command: TypeAlias = Open | Load | Unload | Sample | Cancel | Interrupt | Ping


# ----------------------------------------------------------------------------------- from vLLM


class Opened(msgspec.Struct, frozen=True, tag=True):
    pids: list[int]
    """The process that speaks, and those that compute."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    number: int
    content_hash: str = ""
    """Of the adapter that vLLM holds."""
    error: str = ""
    """Why there is none."""


class Answered(msgspec.Struct, frozen=True, tag=True):
    job_id: int
    response: SampleResponse


class Refused(msgspec.Struct, frozen=True, tag=True):
    """vLLM does not take the job; it goes on with the others."""

    job_id: int
    error: str


class Pong(msgspec.Struct, frozen=True, tag=True):
    number: int
    """Of the ping that this answers."""
    core: int
    """Of the last ping that also the process that computes has answered."""
    unanswered: int
    """Jobs it has."""
    progress: int
    """Grows with every token and every answer."""


Report: TypeAlias = Opened | Loaded | Answered | Refused | Pong


# -------------------------------------------------------------------------------------- framing


def frame(message: Command | Report) -> bytes:
    """The bytes of a message on the wire."""
    data = encode(message)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


class Messages:
    """Reads messages off a stream."""

    def __init__(self, stream: ByteReceiveStream) -> None:
        self._stream = BufferedByteReceiveStream(stream)

    async def receive(self, kind: type[T]) -> T:
        """The next message.

        Raises:
            anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError: if none comes.
        """
        length = int.from_bytes(await self._stream.receive_exactly(_LENGTH_BYTES), "big")
        return decode(await self._stream.receive_exactly(length), kind)
