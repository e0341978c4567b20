"""What policies write: as asked, and in every way that nobody asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec

from tinker_rl.errors import UnknownNameError, choices
from tinker_rl.testing.extra import st
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.hard_texts import (
    ADVERSARIAL_TEXTS,
    BROKEN_TEXTS,
    CHARACTERS,
    LETTER_TEXTS,
    NUMBER_CHARACTERS,
    NUMBER_TEXTS,
)
from tinker_rl.testing.strategies.look_alikes import look_alike_tokens
from tinker_rl.testing.strategies.token_space import Action, TokenSource, TokenSpace, token_space
from tinker_rl.testing.strategies.tool_actions import drawn_calls, good_calls
from tinker_rl.testing.strategies.tools import Tool, Tools, known_tools

__all__ = ["ACTION_KINDS", "ValidActions", "actions", "hard_actions", "named_action", "texts"]

ValidActions: TypeAlias = "Sequence[Action] | st.SearchStrategy[Any]"
"""Examples of good actions, or a strategy that draws them."""


_PLAIN_TEXTS = ("0", "1", "yes", "no", "a", "A", "Hello.", "\\boxed{1}", "\\boxed{42}")


def actions(
    source: TokenSource,
    *,
    valid: ValidActions | None = None,
    kinds: Sequence[str] | None = None,
    max_tokens: int = 600,
    tools: Tools = (),
) -> st.SearchStrategy[DrawnAction]:
    """Draw actions; they shrink to few tokens, and then to the first of `kinds`.

    Args:
        source: The renderer or tokenizer of the environment, or the size of its vocabulary.
        valid: What a good policy would write; None: short answers and numbers, boxed or not, and
            calls of `tools`.
        kinds: Which of `ACTION_KINDS` to draw; None: all.
        max_tokens: Most tokens of a huge one.
        tools: The tools that can be called: names, or what the renderer is given.
    Raises:
        RequestError: if `source` gives no tokens.
        ConfigError: if `tools` are none.
        UnknownNameError: if there is no such kind.
    """
    space = token_space(source)
    for kind in kinds or ():
        if kind not in ACTION_KINDS:
            raise UnknownNameError(
                f"actions: expected kinds of actions; got {kind!r}.{choices(kind, ACTION_KINDS)}"
            )
    listed = () if valid is None or isinstance(valid, st.SearchStrategy) else valid
    named = [space.encode_action(action) for action in listed]
    known = known_tools(space, tools, named)
    good = _good(space, valid)
    calls = good_calls(space, known) if valid is None else []
    given = _Given(
        space=space,
        good=st.sampled_from(calls) | good if calls else good,
        max_tokens=max_tokens,
        tools=known,
    )
    return st.one_of([ACTION_KINDS[kind](given) for kind in kinds or ACTION_KINDS])


def named_action(space: TokenSpace, action: Action) -> DrawnAction:
    """What a good policy writes, ended as it should be."""
    return DrawnAction((*space.encode_action(action), *space.stop_of(action)))


def hard_actions(source: TokenSource) -> list[DrawnAction]:
    """Actions that are known to break things, the simplest first: nothing is left to chance."""
    space = token_space(source)
    stop = space.stops[0] if space.stops else ()
    one = space.encode("1")
    kinds = {
        "malformed": (*NUMBER_TEXTS, *BROKEN_TEXTS, *LETTER_TEXTS),
        "adversarial_text": ADVERSARIAL_TEXTS,
    }
    hard = [
        DrawnAction((), "stop", "empty"),
        DrawnAction(stop, "stop", "empty"),
        DrawnAction(one, "length", "truncated"),
        DrawnAction(one, "stop", "special_tokens"),
        *(
            DrawnAction((*space.encode(text), *stop), "stop", kind)
            for kind, texts in kinds.items()
            for text in texts
        ),
        *(
            DrawnAction((*one, token, *one, *stop), "stop", "special_tokens")
            for token in space.special_tokens[:8]
        ),
        DrawnAction((*one * 500, *stop), "stop", "huge"),
    ]
    return list(dict.fromkeys(hard))


def texts(max_size: int = 20) -> st.SearchStrategy[str]:
    """Any text of ASCII and of some characters of every odd sort; it shrinks to few zeros."""
    return st.text(CHARACTERS, max_size=max_size)


Tokens: TypeAlias = tuple[int, ...]
Good: TypeAlias = "st.SearchStrategy[Tokens]"


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    """What actions are drawn from."""

    space: TokenSpace
    good: Good
    """What a good policy writes, without the stop."""
    max_tokens: int
    """Of a huge action."""
    tools: tuple[Tool, ...]


def _good(space: TokenSpace, valid: ValidActions | None) -> Good:
    if isinstance(valid, st.SearchStrategy):
        return valid.map(space.encode_action)
    if valid is not None:
        return st.sampled_from([space.encode_action(action) for action in valid])
    if space.tokenizer is None:
        return st.lists(_token_ids(space), min_size=1, max_size=4).map(tuple)
    numbers = st.integers(-20, 2000)
    texts = st.sampled_from(_PLAIN_TEXTS) | numbers.map(str) | numbers.map("\\boxed{{{}}}".format)
    return texts.map(space.encode)


def _token_ids(space: TokenSpace) -> st.SearchStrategy[int]:
    return st.integers(0, space.num_drawn - 1)


def _ended(space: TokenSpace, kind: str, tokens: st.SearchStrategy[Tokens]) -> Any:
    """Actions that end as they should."""
    stops = st.sampled_from(space.stops or ((),))
    return st.builds(lambda body, stop: DrawnAction((*body, *stop), "stop", kind), tokens, stops)


def _valid(given: _Given) -> Any:
    return _ended(given.space, "valid", given.good)


def _empty(given: _Given) -> Any:
    nothing = st.just(DrawnAction((), "stop", "empty"))
    return nothing | _ended(given.space, "empty", st.just(()))


def _malformed(given: _Given) -> Any:
    broken = st.sampled_from([given.space.encode(text) for text in BROKEN_TEXTS])
    numbers = st.text(NUMBER_CHARACTERS, min_size=1, max_size=5).map(given.space.encode)
    cut = st.builds(lambda tokens, n: tokens[: len(tokens) - n], given.good, st.integers(1, 3))
    like = partial(look_alike_tokens, given.space)
    alike = st.builds(like, given.good, st.integers(0, 30))
    return _ended(given.space, "malformed", numbers | broken | cut | alike)


def _truncated(given: _Given) -> Any:
    return st.builds(
        lambda tokens, n: DrawnAction(tokens[: max(1, len(tokens) - n)], "length", "truncated"),
        given.good,
        st.integers(0, 3),
    )


def _huge(given: _Given) -> Any:
    def huge(tokens: Tokens, size: int, stop: Tokens | None) -> DrawnAction:
        body = (tokens or (0,)) * size
        if stop is None:
            return DrawnAction(body[:size], "length", "huge")
        return DrawnAction((*body[:size], *stop), "stop", "huge")

    stops = st.sampled_from([*(given.space.stops or ((),)), None])
    return st.builds(
        huge, given.good, st.integers(min(100, given.max_tokens), given.max_tokens), stops
    )


def _adversarial_text(given: _Given) -> Any:
    known = st.sampled_from([given.space.encode(text) for text in ADVERSARIAL_TEXTS])
    written = texts(12).map(given.space.encode)
    around = st.builds(lambda a, b: a + b, known, given.good)
    return _ended(given.space, "adversarial_text", written | known | around)


def _adversarial_tokens(given: _Given) -> Any:
    ids = st.lists(_token_ids(given.space), min_size=1, max_size=12).map(tuple)
    return _ended(given.space, "adversarial_tokens", ids)


def _special_tokens(given: _Given) -> Any:
    special = st.sampled_from(given.space.special_tokens or (0,))

    def odd(tokens: Tokens, token: int, place: int, stop: Tokens) -> DrawnAction:
        place = min(place, len(tokens))
        return DrawnAction(
            (*tokens[:place], token, *tokens[place:], *stop), "stop", "special_tokens"
        )

    stops = st.sampled_from([*(given.space.stops or ((),)), ()])
    return st.builds(odd, given.good, special, st.integers(0, 4), stops)


def _tool_call(given: _Given) -> Any:
    return _ended(given.space, "tool_call", drawn_calls(given.space, given.tools))


ACTION_KINDS: dict[str, Callable[[_Given], Any]] = {
    "valid": _valid,
    "empty": _empty,
    "malformed": _malformed,
    "truncated": _truncated,
    "adversarial_text": _adversarial_text,
    "adversarial_tokens": _adversarial_tokens,
    "special_tokens": _special_tokens,
    "tool_call": _tool_call,
    "huge": _huge,
}
"""Kinds of actions, the simplest first, and what draws them."""
