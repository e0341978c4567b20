"""Texts that read like a good answer, and are others to a program: TEA, ｔｅａ, téa for tea."""

from __future__ import annotations

import itertools
import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.token_space import TokenSpace
from tinker_rl.testing.strategies.tools import called

__all__ = ["look_alike_actions", "look_alike_episodes", "look_alike_tokens", "look_alikes"]

Tokens = tuple[int, ...]
Episode = tuple[DrawnAction, ...]
Part = tuple[str, str, str]
"""What is before the part of a text that is to be changed, the part, and what is after it."""

_ALNUM = string.ascii_letters + string.digits
_FULLWIDTH = str.maketrans({c: chr(ord(c) + 0xFEE0) for c in _ALNUM})
_SUPERSCRIPT = str.maketrans(
    string.digits, "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)
_ARABIC = str.maketrans({c: chr(0x660 + int(c)) for c in string.digits})
_CYRILLIC = str.maketrans("aceopxy", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443")
_GROWING = str.maketrans("iIsS", "\u0130\u0130\u00df\u00df")
"""To letters that are two in the other case."""
_MARKS = ("\u0301", "\u0308", "\u030c", "\u0307")
"""Acute, diaeresis, caron, a dot above: no letter takes all of them."""


def _accented(text: str) -> str:
    return "".join(map(_with_mark, text))


def _with_mark(letter: str) -> str:
    if letter not in string.ascii_letters:
        return letter
    marked = (unicodedata.normalize("NFC", letter + mark) for mark in _MARKS)
    return next((made for made in marked if len(made) == 1), letter)


def _number(form: str) -> Callable[[str], str]:
    """Another way to write a number, or its negative."""
    return lambda text: form.format(text) if text.isdecimal() else text


_CHANGES: tuple[Callable[[str], str], ...] = (
    lambda text: text.translate(_FULLWIDTH),  # letters to `str.isalpha`, digits to `int`
    lambda text: text.translate(_SUPERSCRIPT),  # digits to `str.isdigit`, not to `int`
    _accented,
    lambda text: text.upper() if text.upper() != text else text.lower(),
    lambda text: f"{text}\n",
    lambda text: unicodedata.normalize("NFD", _accented(text)),
    lambda text: text.translate(_ARABIC),
    lambda text: f" {text}\u00a0",
    lambda text: f"{text[:1]}\u200d{text[1:]}",
    _number("-{}"),
    lambda text: text.translate(_GROWING),
    lambda text: text + text,
    lambda text: text.translate(_CYRILLIC),
    lambda text: f"{text} {text}",
    _number("0{}"),
    _number("{}.0"),
)
"""Ways to change a text; one that has nothing to change gives the same."""

_FRAMED = re.compile(
    r"\\boxed\{([^{}]+)\}|<(?P<tag>(?!think)\w+)>([^<>]+)</(?P=tag)>"
    r"|####[ \t]*(\S+)|[Aa]nswer:[ \t]*(\S+)"
)
"""Usual ways to say which part of a text is the answer."""


def look_alikes(text: str) -> list[str]:
    """Every one of a text; only the answer in it is changed, where it is in a box or a tag."""
    if not text:
        return []
    made = [_changed(part, change) for change in _CHANGES for part in _parts(text, (0, 0))]
    return [other for other in dict.fromkeys(made) if other != text]


def look_alike_actions(space: TokenSpace, actions: Sequence[DrawnAction]) -> list[DrawnAction]:
    """Look-alikes of good actions: one for each way to change them, of another action each time.

    Calls of tools have none.

    Args:
        space: What the actions are written in; without text there are none.
        actions: What a good policy does.
    """
    episodes = [(action,) for action in actions]
    return [episode[0] for episode in look_alike_episodes(space, episodes)]


def look_alike_episodes(space: TokenSpace, episodes: Sequence[Episode]) -> list[Episode]:
    """Good episodes with a look-alike in the place of one action, for each way to change it.

    Args:
        space: As in `look_alike_actions`.
        episodes: What a good policy does; the place is another one each time.
    """
    texts = [[_text(space, action.tokens) for action in episode] for episode in episodes]
    frame = _frame([text for episode in texts for text in episode if text])
    places = [
        (episode, turn, part)
        for episode, written in zip(episodes, texts, strict=True)
        for turn, text in enumerate(written)
        for part in _parts(text, frame)
    ]
    stop = space.stops[0] if space.stops else ()
    made: list[Episode] = []
    for number, change in enumerate(_CHANGES):
        start = number % max(1, len(places))
        for episode, turn, part in (*places[start:], *places[:start]):
            text = _changed(part, change)
            if text != "".join(part):
                action = DrawnAction((*space.encode(text), *stop), "stop", "malformed")
                made.append((*episode[:turn], action, *episode[turn + 1 :]))
                break
    return list(dict.fromkeys(made))


def look_alike_tokens(space: TokenSpace, tokens: Tokens, number: int) -> Tokens:
    """One look-alike of a good action, without the stop; doubled, where it has none."""
    others = look_alikes(_text(space, tokens))
    return space.encode(others[number % len(others)]) if others else tokens + tokens


def _changed(part: Part, change: Callable[[str], str]) -> str:
    before, text, after = part
    return f"{before}{change(text)}{after}"


def _text(space: TokenSpace, tokens: Tokens) -> str:
    """The text of an action, without the stop; empty for a call of a tool, and for no text."""
    for stop in space.stops:
        if stop and tokens[-len(stop) :] == stop:
            tokens = tokens[: -len(stop)]
            break
    if space.tokenizer is None or any(True for _ in called(space, [tokens])):
        return ""
    try:
        return space.text(tokens)
    except Exception:  # ids outside the vocabulary, as in `TokenSpace.decode`
        return ""


def _parts(text: str, frame: tuple[int, int]) -> Iterator[Part]:
    """Parts of a text that are worth a change: what it says, and the last word of that."""
    framed = next(reversed(list(_FRAMED.finditer(text))), None)
    if framed is not None:
        group = next(g for g in (1, 3, 4, 5) if framed[g] is not None)
        start, end = framed.span(group)
    else:
        start, end = frame[0], len(text) - frame[1]
    said = text[start:end]
    if said.strip():
        yield text[:start], said, text[end:]
    if len(said.split()) > 1:
        last = start + said.rstrip().rfind(said.split()[-1])
        yield text[:last], text[last:end], text[end:]


def _frame(texts: Sequence[str]) -> tuple[int, int]:
    """How many characters all texts begin with, and end with, up to whole words."""
    if len(set(texts)) < 2:
        return 0, 0
    start = _common([*texts])
    end = _common([text[::-1] for text in texts])
    return (start, end) if start + end < min(map(len, texts)) else (0, 0)


def _common(texts: list[str]) -> int:
    least, greatest = min(texts), max(texts)
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(least, greatest, strict=False))
    size = sum(1 for _ in pairs)
    while size and texts[0][size - 1].isalnum():
        size -= 1
    return size
