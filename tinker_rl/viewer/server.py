"""The page over HTTP on this machine alone, following runs as they go."""

from __future__ import annotations

import errno
import math
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinker_rl.errors import ConfigError
from tinker_rl.viewer.page import FORMAT, gzipped
from tinker_rl.viewer.plain import encode, text
from tinker_rl.viewer.reader import PARTS, RunReader
from tinker_rl.viewer.template import page_parts, waiting_page

__all__ = ["DEFAULT_PORT", "make_app", "open_socket", "serve"]

DEFAULT_PORT = 8791
LOOPBACK = "127.0.0.1"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ANY = frozenset({"0.0.0.0", "::"})
_SECONDS_BETWEEN_POLLS = 1.0
_SHARE = 0.1
"""Of the time, at most, that goes into reading and packing: a run may need the machine."""
_MOST_CACHED = 64
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Shown:
    """Runs that pages look at, from several threads at once.

    However many pages there are, folders are read once a second at most, and less often where that
    takes long.

    Args:
        runs: What to show; what begins later is added to it, at its end.
        now: The clock.
        waiting: Where a run may begin.
    """

    def __init__(
        self,
        runs: list[RunReader],
        now: Callable[[], float] = time.monotonic,
        waiting: Sequence[Path] = (),
    ) -> None:
        self._runs = runs
        self._now = now
        self._waiting = list(waiting)
        self._lock = threading.Lock()
        self._next_poll = -math.inf
        self._spent = 0.0
        """Seconds since the last poll that went into reading and packing."""
        self._polled_at = -math.inf
        self._cache: dict[tuple[str, int, int], bytes] = {}

    def head(self) -> dict[str, Any]:
        """What is known of each run by now, and where none has begun so far."""
        with self._working():
            heads = [run.head(str(n)) for n, run in enumerate(self._runs)]
            return {"runs": heads, "waiting": [text(path) for path in self._waiting]}

    def blob(self, run_id: str, name: str) -> bytes | None:
        """A part of a run, in gzip's form; None if there is none of that name."""
        if not (run_id.isdecimal() and int(run_id) < len(self._runs)):
            return None
        with self._working():
            run = self._runs[int(run_id)]
            revision = self._revision(run, name)
            if revision is None:
                return None
            key = (f"{run_id}/{name}", run.journal.generation, revision)
            if key not in self._cache:
                self._make_room(key[0])
                self._cache[key] = gzipped(encode(self._value(run, name)))
            return self._cache[key]

    def _make_room(self, name: str) -> None:
        """Forget what was made of a part before, and the oldest where there are too many."""
        for old in [key for key in self._cache if key[0] == name]:
            del self._cache[old]
        while len(self._cache) >= _MOST_CACHED:
            del self._cache[next(iter(self._cache))]

    @contextmanager
    def _working(self) -> Generator[None]:
        """Read what was added, if it is time; the block has the runs for itself."""
        with self._lock:
            began = self._now()
            if began >= self._next_poll:
                self._join()
                for run in self._runs:
                    run.poll()
                self._spent = 0.0
                self._polled_at = began
            try:
                yield
            finally:
                self._spent += self._now() - began
                pause = max(_SECONDS_BETWEEN_POLLS, self._spent / _SHARE)
                self._next_poll = self._polled_at + pause

    def _join(self) -> None:
        """Take in the runs that have begun; the others keep their numbers."""
        for path in list(self._waiting):
            with suppress(ConfigError, OSError):
                self._runs.append(RunReader(path))
                self._waiting.remove(path)

    @staticmethod
    def _revision(run: RunReader, name: str) -> int | None:
        for part in PARTS:
            if name == part:
                return run.revision(part)
        kind, _, number = name.partition("/")
        is_chunk = kind == "chunk" and number.isdecimal() and len(number) < 19
        return run.journal.chunk_revisions().get(int(number)) if is_chunk else None

    @staticmethod
    def _value(run: RunReader, name: str) -> Any:
        for part in PARTS:
            if name == part:
                return run.part(part)
        return run.journal.chunk(int(name.partition("/")[2]))


def make_app(
    runs: list[RunReader], host: str = LOOPBACK, waiting: Sequence[Path] = ()
) -> Starlette:
    """The application: the page, `head` and `blobs/<name>`.

    Args:
        runs: What to show; what begins later is added to it, at its end.
        host: The interface that it will listen on, which is a name to call it by too.
        waiting: Where a run may begin. Until there is any, the page says what it waits for.
    """
    shown = Shown(runs, waiting=waiting)

    def page() -> bytes:
        known = shown.head()
        if not known["runs"]:
            return waiting_page(known["waiting"])
        data = {"format": FORMAT, "mode": "serve", "written_at": time.time()}
        return b"".join(page_parts(data | known, lambda: iter(())))

    async def get_page(_: Request) -> Response:
        return Response(await run_in_threadpool(page), media_type="text/html; charset=utf-8")

    async def get_head(_: Request) -> Response:
        return _json(gzipped(encode(await run_in_threadpool(shown.head))))

    async def get_blob(request: Request) -> Response:
        params = request.path_params
        found = await run_in_threadpool(shown.blob, params["run_id"], params["name"])
        return PlainTextResponse("no such part\n", 404) if found is None else _json(found)

    names = _LOCAL_NAMES if host in _LOCAL_NAMES else _LOCAL_NAMES | {host}
    checked = None if host in _ANY else names
    return Starlette(
        routes=[
            Route("/", get_page),
            Route("/head", get_head),
            Route("/blobs/{run_id}/{name:path}", get_blob),
        ],
        middleware=[Middleware(_Guard, names=checked)],
    )


def _json(compressed: bytes) -> Response:
    headers = {"content-encoding": "gzip"}
    return Response(compressed, media_type="application/json", headers=headers)


class _Guard:
    """Answers only who calls the server by its own name, and tells browsers to trust nothing else.

    A page of another site whose name was made to point here (DNS rebinding) calls it by that name.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        app = self._app
        if not self._is_called_by_name(Headers(scope=scope).get("host", "")):
            app = PlainTextResponse("this server answers to localhost only\n", 421)
        await app(scope, receive, send_guarded)

    def _is_called_by_name(self, host: str) -> bool:
        if self._names is None:
            return True
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        name = name if port.isdecimal() else host
        return name.lower() in self._names


def open_socket(host: str, port: int | None) -> socket.socket:
    """A socket to listen on: at `port`, or for None at the usual one, or any if that is taken.

    Raises:
        ConfigError: if it cannot be had.
    """
    if port is None:
        with suppress(OSError):
            return _bound(host, DEFAULT_PORT)
    port = port or 0
    try:
        return _bound(host, port)
    except OSError as error:
        raise _no_socket(host, port, error) from error


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def _no_socket(host: str, port: int, error: OSError) -> ConfigError:
    why = error.strerror or error
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return ConfigError(
            f"view: port: expected one that is free at {host}; got {port} ({why}). Choose another "
            "with --port, or leave it out."
        )
    return ConfigError(
        f"view: host: expected an address of this machine; got {host} ({why}). 0.0.0.0 stands for "
        f"all of them; leave it out for {LOOPBACK}."
    )


def serve(
    runs: list[RunReader],
    sock: socket.socket,
    host: str = LOOPBACK,
    waiting: Sequence[Path] = (),
) -> None:
    """Serve the page of runs until Ctrl-C, which ends it quietly. Closes the socket.

    Args:
        runs: What to show; what begins later is added to it, at its end.
        sock: From `open_socket`.
        host: The interface that it listens on.
        waiting: Where a run may begin.
    """
    config = uvicorn.Config(
        make_app(runs, host, waiting),
        log_level="error",
        lifespan="off",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    with sock, suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[sock])
