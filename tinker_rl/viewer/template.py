"""The page without data: what the browser runs, from the package's `static` folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from tinker_rl.viewer.plain import encode

__all__ = ["page_parts", "script_json", "waiting_page"]

ORDER_FILE = "order.txt"
"""Names of the scripts, in the order in which they run; lines that begin with # are comments."""
_UNSAFE = {sign.encode(): f"\\u{ord(sign):04x}".encode() for sign in "<>&\u2028\u2029"}


def script_json(value: Any) -> bytes:
    """JSON that nothing in it can end the script element of, nor begin another."""
    data = encode(value)
    for raw, escaped in _UNSAFE.items():  # in JSON they stand in texts only
        data = data.replace(raw, escaped)
    return data


def page_parts(data: Any, blobs: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    """The page, piece by piece.

    Args:
        data: What the page knows at once.
        blobs: Gives the elements of what it decodes later.
    """
    template = _read("index.html")
    fillers: dict[bytes, Callable[[], Iterator[bytes]]] = {
        b"<!--STYLE-->": _styles,
        b"<!--DATA-->": lambda: iter([_element(data)]),
        b"<!--BLOBS-->": blobs,
        b"<!--SCRIPTS-->": _scripts,
    }
    places = sorted((template.index(name), name) for name in fillers)
    last = 0
    for place, name in places:
        yield template[last:place]
        yield from fillers[name]()
        last = place + len(name)
    yield template[last:]


def waiting_page(waiting: Sequence[str]) -> bytes:
    """The page while no run has begun: it says where one is waited for, and looks by itself."""
    items = "".join(f"<li>{escape(name)}</li>" for name in waiting)
    return _read("waiting.html").replace(b"<!--WAITING-->", items.encode())


def _element(data: Any) -> bytes:
    head = b'<script type="application/json" id="tinker-data">'
    return head + script_json(data) + b"</script>"


def _styles() -> Iterator[bytes]:
    yield b"<style>\n" + _read("style.css") + b"</style>"


def _scripts() -> Iterator[bytes]:
    for line in _read(ORDER_FILE).decode().splitlines():
        name = line.strip()
        if name and not name.startswith("#"):
            yield b"<script>\n" + _read(name) + b"\n</script>\n"


def _read(name: str) -> bytes:
    return (files("tinker_rl.viewer") / "static" / name).read_bytes()
