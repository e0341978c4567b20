"""What all clients have in common."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Self

from tinker_rl.backend import Backend

__all__ = ["ClientHandle"]


class ClientHandle:
    """A client that is also its own future.

    Older code uses what `create_...` returns as the client, newer code calls `.result()` on it or
    awaits it first: both work.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def result(self, timeout: float | None = None) -> Self:
        """The client itself."""
        return self

    async def result_async(self, timeout: float | None = None) -> Self:
        """The client itself."""
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self
        yield

    def __reduce__(self) -> Any:
        return self._backend.__reduce__()
