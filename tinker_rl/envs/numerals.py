r"""Numbers as people and models write them: `1,234`, `\$5.00`, `\frac{3}{4}`, `18 eggs`, `20\%`."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["parse_number", "same_number"]

MAX_CHARS = 200
"""Nobody needs more for one number; what is longer is not read."""
DECIMAL_PLACES = 6
"""Decimal places to which a rounded number must agree with a fraction such as 1/3."""

_WRAPPERS = re.compile(
    r"\\(?:boxed|text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox)\s*\{([^{}]*)\}"
)
_SPACING = re.compile(r"\\[!,;:]|\\(?:left|right|displaystyle)(?![A-Za-z])")
_WIDE_SPACING = re.compile("\\\\ |~|\u00a0|\u202f|\u2009|\\\\q?quad(?![A-Za-z])")
_CURRENCY = re.compile(r"\\?\$|[€£¥₹]|\b(?:USD|US)\b")
_DEGREES = re.compile(r"\^\s*(?:\{\s*)?\\circ(?:\s*\})?|\\degree(?![A-Za-z])")
_NAME = re.compile(r"[A-Za-z_ ]{1,40}[=:]")
_INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ ][0-9]{3})+|[0-9]+)"
_UNSIGNED = rf"(?:{_INTEGER}(?:\.[0-9]*)?|\.[0-9]+)"
_FRACTION = (
    rf"\\[dtc]?frac\s*(?:\{{\s*(?P<top>-?{_UNSIGNED})\s*\}}|(?P<top1>[0-9]))"
    rf"\s*(?:\{{\s*(?P<bottom>{_UNSIGNED})\s*\}}|(?P<bottom1>[0-9]))"
)
_NUMBER = re.compile(
    rf"""(?P<sign>[+-]?)\s*
    (?:
        (?:(?P<whole>[0-9]+)\s*)?{_FRACTION}
      | (?P<whole2>[0-9]+)[ ](?P<top2>[0-9]+)/(?P<bottom2>[0-9]+)
      | (?P<top3>{_UNSIGNED})\s*/\s*(?P<bottom3>{_UNSIGNED})
      | (?P<decimal>{_UNSIGNED}(?:[eE][+-]?[0-9]{{1,3}})?)
    )
    (?P<unit>(?![0-9,]).*)""",
    re.VERBOSE | re.DOTALL,
)
_UNIT = re.compile(r"[A-Za-z%°'’(²³][A-Za-z%°'’()²³. /-]*(?:\^\s*(?:[23]|\{[23]\}))?[ .)]*")
_ONE_LETTER_UNITS = frozenset("mgshLlCF")
"""Units of one letter; any other single letter is a variable, and `18x` is not 18."""
_SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_NOT_UNITS = frozenset(
    {"and", "or", "to", "not", "minus", "plus", "times", "over", "less", "more", "fewer", "pi"}
    | {"above", "below", "half", "quarter", "quarters", "third", "thirds", *_SCALES}
)
"""Words after a number that make it another number, or more than one."""


def parse_number(text: str) -> Fraction | None:
    r"""The exact value of a number, or None if `text` is anything but one number.

    Read: thousands separators, currency and percent signs (a percent sign counts as a unit),
    decimals, fractions, mixed numbers, a unit after the number, `name =` before it, and the LaTeX
    around all of these. Not read: expressions such as `2+3`, several numbers, number words.
    """
    if len(text) > MAX_CHARS:
        return None
    match = _NUMBER.fullmatch(_plain(text))
    if match is None:
        return None
    scale = _scale_of_unit(match["unit"])
    if scale is None:
        return None
    value = _value(match)
    if value is None:
        return None
    return -value * scale if match["sign"] == "-" else value * scale


def same_number(left: Fraction, right: Fraction) -> bool:
    """Whether two numbers are equal, or one is the other rounded to six decimal places.

    Rounding is forgiven only where it cannot be helped: one of the two has no finite decimal form.
    """
    if left == right:
        return True
    if _is_decimal(left) == _is_decimal(right):
        return False
    return abs(left - right) <= Fraction(1, 2 * 10**DECIMAL_PLACES)


def _plain(text: str) -> str:
    """The text without what LaTeX and currencies put around a number."""
    for _ in range(4):
        unwrapped = _WRAPPERS.sub(r" \1 ", text)
        if unwrapped == text:
            break
        text = unwrapped
    text = text.replace("{,}", ",").replace("\u2212", "-").replace("\\%", "%")
    text = _WIDE_SPACING.sub(" ", _SPACING.sub("", text))
    text = _DEGREES.sub("°", _CURRENCY.sub(" ", text))
    text = text.replace("\\(", " ").replace("\\)", " ").strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    return _NAME.sub("", text, count=1).strip() if _NAME.match(text) else text


def _value(match: re.Match[str]) -> Fraction | None:
    """The number of a match, without its sign; None for a division by zero."""
    if match["decimal"] is not None:
        return _fraction(match["decimal"])
    top = match["top"] or match["top1"] or match["top2"] or match["top3"]
    bottom = match["bottom"] or match["bottom1"] or match["bottom2"] or match["bottom3"]
    if not (denominator := _fraction(bottom)):
        return None
    whole = match["whole"] or match["whole2"]
    value = _fraction(top) / denominator
    if whole is None:
        return value
    return None if value < 0 or value >= 1 else int(whole) + value


def _fraction(text: str) -> Fraction:
    digits = text.replace(",", "").replace(" ", "")
    return Fraction(digits[:-1] if digits.endswith(".") else digits.replace(".e", "e"))


def _scale_of_unit(text: str) -> int | None:
    """What the words after a number multiply it by; None where they are no unit."""
    text = text.strip()
    if text in ("", "."):
        return 1
    if _UNIT.fullmatch(text) is None:
        return None
    words = re.findall(r"[A-Za-z]+", text.lower())
    if not words:
        return 1
    scale = _SCALES.get(words[0], 1)
    rest = words[1:] if scale > 1 else words
    if any(word in _NOT_UNITS for word in rest):
        return None
    first = re.match(r"[A-Za-z]+", text)
    if first is not None and len(first[0]) == 1 and first[0] not in _ONE_LETTER_UNITS:
        return None
    return scale


def _is_decimal(value: Fraction) -> bool:
    """Whether the number can be written with finitely many decimal places."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1
