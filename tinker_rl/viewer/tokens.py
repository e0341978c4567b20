"""The text of single tokens, exact to the byte, without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinker_rl.lineup import model_path

__all__ = ["TokenText", "load_token_text"]

Text: TypeAlias = str | list[int]
"""What a token says; its bytes where they are no text by themselves."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenText:
    """What each token id says. Each id is looked up once.

    Args:
        find: The bytes of an id; None if the vocabulary lacks it.
        special: Ids of tokens that stand for no text, such as the ends of turns.
    """

    def __init__(self, find: Callable[[int], bytes | None], special: Iterable[int] = ()) -> None:
        self._find = find
        self._bytes: dict[int, bytes] = {}
        self._texts: dict[int, Text] = {}
        self.special = np.array(sorted(special), np.int64)
        """Ids, ascending. int64, shape [N]."""

    def bytes_of(self, token: int) -> bytes:
        """What a token says, in UTF-8; for an unknown id, `<id>`."""
        found = self._bytes.get(token)
        if found is None:
            known = self._find(token)
            found = f"<{token}>".encode() if known is None else known
            self._bytes[token] = found
        return found

    def text_of(self, token: int) -> Text:
        """What a token says, as text where its bytes are text."""
        found = self._texts.get(token)
        if found is None:
            raw = self.bytes_of(token)
            try:
                found = raw.decode()
            except UnicodeDecodeError:
                found = list(raw)
            self._texts[token] = found
        return found

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens one after the other; `U+FFFD` for what is no UTF-8."""
        return b"".join(map(self.bytes_of, tokens)).decode(errors="replace")


def load_token_text(model_name: str | None) -> tuple[TokenText, str | None]:
    """The vocabulary of a run's model, and a note where there is none: then ids are shown."""
    if not model_name:
        return TokenText(lambda _: None), "no config.json names the model: token ids are shown"
    try:
        return _loaded(model_name), None
    except Exception as error:  # each library that reads a part of it has errors of its own
        reason = str(error).split("\n")[0]
        return TokenText(lambda _: None), f"token ids are shown: {reason}"


def _loaded(model_name: str) -> TokenText:
    from tokenizers import Tokenizer

    if file := _file_of(model_name):
        return _of_library(Tokenizer.from_file(str(file)))
    from tinker_rl.tokenizers import get_tokenizer  # loads torch

    tokenizer = get_tokenizer(model_name)
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        return _of_library(backend)
    return TokenText(lambda token: tokenizer.decode([token]).encode(), tokenizer.all_special_ids)


def _file_of(model_name: str) -> Path | None:
    """The model's `tokenizer.json`, where it lies on this machine."""
    if model_name.count("/") == 1 and not Path(model_name).is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model_name, "tokenizer.json")
        if isinstance(cached, str):
            return Path(cached)
        model_path(model_name)  # raises if the hub cannot be asked, before anything heavy is loaded
        return None
    file = Path(model_path(model_name)) / "tokenizer.json"
    return file if file.is_file() else None


def _of_library(tokenizer: Any) -> TokenText:
    """The vocabulary of a tokenizer of the library `tokenizers`."""
    added = {id_: token.content for id_, token in tokenizer.get_added_tokens_decoder().items()}
    special = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    is_byte_level = "ByteLevel" in str(tokenizer.decoder)
    to_bytes = _of_byte_level if is_byte_level else _of_pieces

    def find(token: int) -> bytes | None:
        if token in added:
            return added[token].encode()
        written = tokenizer.id_to_token(token) if 0 <= token < 2**32 else None
        return None if written is None else to_bytes(written)

    return TokenText(find, special)


def _of_byte_level(written: str) -> bytes:
    """Each character stands for a byte."""
    alphabet = _alphabet()
    try:
        return bytes([alphabet[character] for character in written])
    except KeyError:
        return written.encode(errors="replace")


def _of_pieces(written: str) -> bytes:
    """`<0xNN>` is a byte; a lower block stands for a blank."""
    if match := _BYTE.fullmatch(written):
        return bytes([int(match[1], 16)])
    return written.replace("\u2581", " ").encode(errors="replace")


@lru_cache(maxsize=1)
def _alphabet() -> dict[str, int]:
    """The character of each byte in byte-level vocabularies: printable Latin-1 stands for itself,
    the other bytes for the characters from U+0100 on, in order."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(b): b for b in own} | {chr(0x100 + n): b for n, b in enumerate(others)}
