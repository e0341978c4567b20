"""The tokens that actions are made of: a tokenizer's, a renderer's, or plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tinker_rl.envs import Env, MessageEnv
from tinker_rl.errors import RequestError
from tinker_rl.renderers import Message, Renderer

__all__ = ["Action", "TokenSource", "TokenSpace", "find_source", "token_space"]

TokenSource: TypeAlias = Any
"""A renderer, a tokenizer of transformers, or the size of a vocabulary."""

Action: TypeAlias = str | Sequence[int] | Message
"""What a policy writes, without the stop: a text, tokens, or a message of the assistant's."""


class TokenSpace:
    """What can be written, and how it reads.

    Args:
        tokenizer: Turns text into tokens; None where there is no text, only numbers.
        stops: What ends an action, each as tokens.
        vocab_size: Number of token ids; None where it is not known.
        num_drawn: How many of them, from 0 on, may be drawn where that is not known.
        renderer: Writes messages; None where there is none.
    """

    def __init__(
        self,
        tokenizer: Any,
        stops: Sequence[Sequence[int]],
        vocab_size: int | None,
        num_drawn: int = 128,
        renderer: Renderer | None = None,
    ) -> None:
        self.renderer = renderer
        self.tokenizer = tokenizer
        self.stops = tuple(tuple(stop) for stop in stops)
        self.vocab_size = vocab_size
        self.num_drawn = num_drawn if vocab_size is None else vocab_size
        self.special_tokens = _special_tokens(tokenizer) or tuple(
            dict.fromkeys(token for stop in self.stops for token in stop)
        )

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a text; of a space without text, the numbers of its characters that fit."""
        if self.tokenizer is None:
            return tuple(ord(character) % self.num_drawn for character in text)
        return tuple(int(t) for t in self.tokenizer.encode(text, add_special_tokens=False))

    def encode_action(self, action: Action) -> tuple[int, ...]:
        """Tokens of an action, without what ends it.

        Raises:
            RequestError: if it is a message that the renderer cannot write, or there is none.
        """
        if isinstance(action, str):
            return self.encode(action)
        if not isinstance(action, Mapping):
            return self._unended(tuple(int(token) for token in action))
        if self.renderer is None:
            raise RequestError(
                f"tinker_rl.testing: expected a renderer to write the message {action!r}; got "
                "none. Pass renderer=..., or give the action as text or tokens."
            )
        asked = Message(role="user", content="")
        tokens, weights = self.renderer.build_supervised_example([asked, action])
        trained = zip(tokens.to_ints(), weights, strict=True)
        return self._unended(tuple(token for token, weight in trained if weight))

    def stop_of(self, action: Action) -> tuple[int, ...]:
        """What ends an action: its own stop, where it is tokens that end with one; or the first."""
        if not isinstance(action, str | Mapping):
            tokens = tuple(int(token) for token in action)
            if own := self._own_stop(tokens):
                return own
        return self.stops[0] if self.stops else ()

    def _unended(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        return tokens[: len(tokens) - len(self._own_stop(tokens))]

    def _own_stop(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The stop with which tokens end; empty where they end with none."""
        ends = (stop for stop in self.stops if stop and tokens[-len(stop) :] == stop)
        return next(ends, ())

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens for a reader; the tokens themselves where they are no text."""
        if self.tokenizer is None:
            return f"tokens {list(tokens)}"
        try:
            return repr(self.text(tokens))
        except Exception:  # ids outside the vocabulary: each tokenizer says so in its own way
            return f"tokens {list(tokens)}"

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, of a space that has text."""
        return str(
            self.tokenizer.decode(
                list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def token_space(
    source: TokenSource, stop: Sequence[str] | Sequence[int] | None = None
) -> TokenSpace:
    """The tokens of a renderer, of a tokenizer, or of a vocabulary of so many.

    Args:
        source: A `Renderer`, a tokenizer of transformers, or the size of a vocabulary.
        stop: What ends an action; None: the renderer's stop sequences, the tokenizer's
            end-of-sequence token, or nothing.
    Raises:
        RequestError: if `source` is none of these.
    """
    if isinstance(source, TokenSpace):
        return source
    if isinstance(source, int) and not isinstance(source, bool) and source > 0:
        return TokenSpace(None, [[int(token)] for token in stop or ()], source)
    is_renderer = isinstance(source, Renderer)
    tokenizer: Any = source.tokenizer if is_renderer else source
    if isinstance(tokenizer, str) or not callable(getattr(tokenizer, "encode", None)):
        raise RequestError(
            f"tinker_rl.testing: expected a renderer, a tokenizer or the size of a vocabulary; got "
            f"{source!r}. Pass the renderer of your environment."
        )
    if stop is None and is_renderer:
        stop = source.get_stop_sequences()
    if stop is None:
        end = getattr(tokenizer, "eos_token_id", None)
        stop = [] if end is None else [int(end)]
    space = TokenSpace(tokenizer, [], len(tokenizer))
    stops = [space.encode(end) if isinstance(end, str) else (int(end),) for end in stop]
    return TokenSpace(tokenizer, stops, len(tokenizer), renderer=source if is_renderer else None)


def find_source(env: Any, depth: int = 2) -> TokenSource | None:
    """The renderer or tokenizer that an environment holds; None if it holds none."""
    fields = getattr(env, "__dict__", {})
    values: list[Any] = list(fields.values()) if isinstance(fields, Mapping) else []
    for value in values:
        if isinstance(value, Renderer):
            return value
    for value in values:
        if callable(getattr(value, "encode", None)) and callable(getattr(value, "decode", None)):
            return (
                value if not isinstance(value, str | bytes) and hasattr(value, "__len__") else None
            )
    inner = [value for value in values if isinstance(value, Env | MessageEnv)]
    found = (find_source(value, depth - 1) for value in inner if depth)
    return next((source for source in found if source is not None), None)


def _special_tokens(tokenizer: Any) -> tuple[int, ...]:
    added = getattr(tokenizer, "get_added_vocab", None)
    ids: list[int] = [int(token) for token in getattr(tokenizer, "all_special_ids", None) or ()]
    if callable(added):
        known: Any = added()
        ids += [int(token) for token in known.values()]
    return tuple(dict.fromkeys(ids))
