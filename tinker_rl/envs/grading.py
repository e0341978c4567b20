r"""Answers in `\boxed{}`: finding them, and telling whether they are the right number.

Numerals are compared exactly, in microseconds. Arithmetic such as `3\times 6` is left to
math-verify, without its timeouts: these use signals, which only a main thread may do. What could
keep it busy, a tower of powers for one, is recognised by its shape instead and graded as wrong.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from threading import Lock
from typing import Any, cast

from tinker_rl.envs.numerals import parse_number, same_number

__all__ = ["extract_boxed", "grade_answer", "gsm8k_final_answer"]

MAX_CHARS = 100
MAX_DEPTH = 8
"""Most brackets inside each other."""
MAX_DIGITS = 40
"""Most digits in a row."""
MAX_EXPONENT = 1000
"""Greatest product of all exponents of an answer."""

_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_ARITHMETIC = re.compile(
    r"(?:[0-9.+\-*/()^{} =]|\\(?:[dtc]?frac|sqrt|times|cdot|div|pi|left|right)(?![A-Za-z])"
    r"|,(?=[0-9]{3}(?![0-9])))*"
)
_POWER = re.compile(r"\^|\*\*")
_SMALL_POWER = re.compile(
    r"(?:\^|\*\*)\s*(?:\{\s*([+-]?[0-9.]+)\s*\}|([+-]?[0-9.]+))(?!\s*(?:\^|\*\*))"
)
_math_verify_lock = Lock()
"""math-verify's parser keeps its automata in globals that threads would change together."""


def extract_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, or None if there is none whose braces close.

    Of boxes inside each other, the innermost of the last. Escaped braces are text.
    """
    open_braces: list[int | None] = []  # where the content of a box begins; None: no box
    found: tuple[int, int] | None = None
    for brace in _BRACES.finditer(text):
        token = brace[0]
        if token.endswith("{") and token != r"\{":
            open_braces.append(brace.end() if token.startswith("\\") else None)
        elif token == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and (found is None or start > found[0]):
                found = (start, brace.start())
    return None if found is None else text[found[0] : found[1]]


def gsm8k_final_answer(text: str) -> str:
    """The number after the last `####` of a GSM8K solution, without thousands separators.

    Raises:
        ValueError: if there is none, or it is not a number.
    """
    before, mark, tail = text.rpartition("####")
    answer = tail.strip().replace(",", "")
    if not mark or re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", answer) is None:
        raise ValueError(
            "expected a solution that ends in '#### ' and a number; got "
            f"{(mark + tail if mark else before + tail)[-60:]!r}"
        )
    return answer


def grade_answer(given: str, reference: str) -> bool:
    """Whether an answer is the number that the reference is.

    Any spelling of the number is right (see `parse_number`), and so is arithmetic that comes to
    it. Anything may be given: what cannot be read is wrong.

    Args:
        given: The content of a box.
        reference: The right answer: a number, or arithmetic.
    Raises:
        ValueError: if the reference is neither: a fault of the data, not of the answer.
    """
    right, number = parse_number(reference), parse_number(given)
    if right is not None and number is not None:
        return same_number(number, right)
    expressions = _reference_expressions(reference if right is None else str(right))
    if not _is_quick_arithmetic(given):
        return False
    return _verify(expressions, _parse(given))


@lru_cache(maxsize=4096)
def _reference_expressions(reference: str) -> tuple[Any, ...]:
    expressions = _parse(reference) if _is_quick_arithmetic(reference) else ()
    if not expressions:
        raise ValueError(
            f"grade_answer: expected a reference that is a number or arithmetic; got "
            f"{reference!r}. Correct the data, or grade it in an environment of your own."
        )
    return expressions


def _parse(arithmetic: str) -> tuple[Any, ...]:
    """What math-verify reads: sympy expressions; none where it cannot read it."""
    from math_verify import parser

    latex = parser.LatexExtractionConfig(boxed_match_priority=0)
    with _math_verify_lock:
        parser.TIMEOUT_WARNING_SHOWN = True  # to have no timeout is what we mean
        parsed: list[Any] = parser.parse(
            f"\\boxed{{{arithmetic}}}",
            extraction_config=[latex],
            fallback_mode="no_fallback",
            parsing_timeout=cast(int, None),
        )
    return tuple(expression for expression in parsed if not isinstance(expression, str))


def _verify(reference: tuple[Any, ...], given: tuple[Any, ...]) -> bool:
    from math_verify import grader

    with _math_verify_lock:
        grader.TIMEOUT_WARNING_SHOWN = True
        return grader.verify(list(reference), list(given), timeout_seconds=None)


def _is_quick_arithmetic(answer: str) -> bool:
    """Whether an answer is arithmetic of a shape that cannot take long."""
    if len(answer) > MAX_CHARS or _ARITHMETIC.fullmatch(answer) is None:
        return False
    if re.search(rf"[0-9]{{{MAX_DIGITS}}}", answer) or not _has_shallow_brackets(answer):
        return False
    powers = [bare or braced for braced, bare in _SMALL_POWER.findall(answer)]
    if len(powers) != len(_POWER.findall(answer)):
        return False
    try:
        return math.prod(max(1.0, abs(float(power))) for power in powers) <= MAX_EXPONENT
    except ValueError:  # a power such as 1.2.3
        return False


def _has_shallow_brackets(answer: str) -> bool:
    """Whether every bracket closes, and few are open at a time: others slow the parser down."""
    closing: list[str] = []
    for character in answer:
        if character in "({":
            closing.append(")" if character == "(" else "}")
        elif character in ")}" and (not closing or closing.pop() != character):
            return False
        if len(closing) > MAX_DEPTH:
            return False
    return not closing
