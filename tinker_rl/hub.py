"""Whether a model of the Hugging Face hub can be had on this machine."""

from __future__ import annotations

import os
import socket
import time
from urllib.parse import urlsplit

__all__ = ["hub_problem"]

_CONNECT_SECONDS = 3.0
_REMEMBER_SECONDS = 60.0
_checked: dict[str, tuple[float, str | None]] = {}


def hub_problem(name: str) -> str | None:
    """Why a hub model cannot be loaded here, or None when it is cached or the hub can be reached.

    The hub's own client tries for half a minute before it gives up; this takes three seconds at
    most, and the answer is kept for a minute.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        return f"it cannot be a name of the hub: {error}"
    if isinstance(cached, str):
        return None
    if constants.HF_HUB_OFFLINE:
        return "it is not in the local Hugging Face cache, and HF_HUB_OFFLINE is set"
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return None
    problem = _connection_problem(constants.ENDPOINT)
    return f"it is not in the local Hugging Face cache, and {problem}" if problem else None


def _connection_problem(endpoint: str) -> str | None:
    now = time.monotonic()
    known = _checked.get(endpoint)
    if known is not None and now - known[0] < _REMEMBER_SECONDS:
        return known[1]
    url = urlsplit(endpoint)
    port = url.port or (80 if url.scheme == "http" else 443)
    problem = None
    try:
        socket.create_connection((url.hostname or "", port), _CONNECT_SECONDS).close()
    except OSError as error:
        problem = f"the hub ({url.hostname}) cannot be reached: {error.strerror or error}"
    _checked[endpoint] = (now, problem)
    return problem
