"""The samples that a policy waits for, so that all of them can be interrupted."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tinker_rl.futures import APIFuture
from tinker_rl.types import SampleResponse

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["InFlight"]


class InFlight:
    """Notes samples while somebody waits for them. For the tasks of one event loop."""

    def __init__(self) -> None:
        self._samples: dict[APIFuture[SampleResponse], SamplingClient] = {}

    def __len__(self) -> int:
        """Samples that somebody waits for."""
        return len(self._samples)

    @contextmanager
    def hold(self, client: SamplingClient, future: APIFuture[SampleResponse]) -> Generator[None]:
        """Note a sample for the length of the block."""
        self._samples[future] = client
        try:
            yield
        finally:
            del self._samples[future]

    def interrupt(self) -> None:
        """End all of them with what they have so far.

        Raises:
            UnsupportedError: if the engine cannot.
        """
        for future, client in list(self._samples.items()):
            client.interrupt(future)
