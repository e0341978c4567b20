"""The one interface between clients and engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tinker_rl.futures import APIFuture
from tinker_rl.requests import Request

if TYPE_CHECKING:
    from tinker_rl.losses import CustomLoss

__all__ = ["Backend"]

R = TypeVar("R")


class Backend(Protocol):
    """An engine, wherever it runs: in this process, behind HTTP, on Ray."""

    def submit(self, request: Request[R]) -> APIFuture[R]:
        """Queue a request from any thread. When this returns, the request has its place.

        Errors of the request and of the engine reach the future, never the call.
        """
        ...

    def interrupt(self, future: APIFuture[Any]) -> None:
        """End a sample in flight: its future soon gives what it has so far. From any thread.

        One that is finished stays as it is; again, it does nothing.

        Args:
            future: What `submit` gave for a `Sample`.
        Raises:
            RequestError: if it is the future of something else.
            UnsupportedError: if the engine has no such thing.
        """
        ...

    def add_loss(self, fn: CustomLoss) -> str:
        """Register a loss function and return the id by which requests name it.

        Raises:
            UnsupportedError: if the engine cannot run a function of this process.
        """
        ...

    def remove_loss(self, loss_id: str) -> None:
        """Forget a function that `add_loss` registered."""
        ...

    def close(self) -> None:
        """End the engine: requests not yet begun fail, and its threads are joined."""
        ...
