"""The one place where clients meet an engine."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from tinker_rl.backend import Backend
from tinker_rl.errors import UnsupportedError

if TYPE_CHECKING:
    from tinker_rl.engine.local import EngineOptions, LocalBackend

__all__ = ["close_backend", "deterministic_options", "open_backend"]

_lock = threading.RLock()
_engines: dict[EngineOptions | None, tuple[LocalBackend, int]] = {}


def open_backend(base_url: str | None, options: EngineOptions | None) -> Backend:
    """The engine at `base_url` (or TINKER_BASE_URL), else one in this process.

    Clients with equal options share one engine, and so one copy of each base model in memory; it
    is closed when the last of them is.
    """
    base_url = base_url or os.environ.get("TINKER_BASE_URL") or None
    if base_url is not None:
        raise UnsupportedError(
            f"ServiceClient: expected no base_url; got {base_url!r}. Talking to a remote engine is "
            "not there yet: leave base_url and TINKER_BASE_URL unset to use one in this process."
        )
    from tinker_rl.engine.local import LocalBackend

    with _lock:
        backend, clients = _engines.get(options, (None, 0))
        if backend is None or backend.closed:
            backend, clients = LocalBackend(options), 0
        _engines[options] = (backend, clients + 1)
        return backend


def deterministic_options() -> EngineOptions:
    """Options of an engine in this process that samples the same bits for the same seeds."""
    from tinker_rl.engine.local import EngineOptions
    from tinker_rl.engine.samplers.embedded import EmbeddedSamplerConfig

    return EngineOptions(sampler=EmbeddedSamplerConfig(deterministic=True))


def close_backend(backend: Backend) -> None:
    """Give back what `open_backend` returned."""
    with _lock:
        for options, (engine, clients) in list(_engines.items()):
            if engine is backend and clients > 1:
                _engines[options] = (engine, clients - 1)
                return
            if engine is backend:
                del _engines[options]
    backend.close()
