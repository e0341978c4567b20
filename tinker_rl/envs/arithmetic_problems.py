"""Short sums such as `17+25=?`: the task that the shipped `tiny` model learns by reinforcement.

Pure Python: nothing here imports torch, so a worker starts fast.
"""

import random
import zlib
from typing import Literal, TypeAlias

import msgspec

Split: TypeAlias = Literal["train", "test"]

TEST_SHARE = 0.2
"""Share of the pairs of operands that only the test split may ask about."""
MULTIPLICATION_SHARE = 0.05
"""Share of products; sums and differences have equal halves of the rest."""
MAX_OPERAND = 49
"""Greatest operand of a sum or a difference; the least is 1. No answer has three digits."""
MAX_FACTORS = (3, 33)
"""Greatest one-digit and greatest two-digit factor of a product; the least are 2 and 10."""


class ArithmeticProblem(msgspec.Struct, frozen=True):
    """One sum and its only right answer."""

    question: str
    """What is asked, for example `17+25=?`."""
    answer: int
    """The result, zero or positive."""


def split_of(left: int, right: int) -> Split:
    """The split that a pair of operands belongs to, the same in every process and for ever.

    The order of the operands and the operator do not matter: once `17+25` is a test problem, then
    `25+17`, `25-17` and `17*25` are too, so that no test problem was seen in another dress.
    """
    low, high = sorted((left, right))
    bucket = zlib.crc32(f"{low},{high}".encode())
    return "test" if bucket < TEST_SHARE * 2**32 else "train"


def sample_problem(rng: random.Random, split: Split) -> ArithmeticProblem:
    """Draw a problem of `split`; problems of the two splits never share a pair of operands.

    Args:
        rng: Source of all randomness; the same state gives the same problem.
        split: `"train"` or `"test"`.
    Raises:
        ValueError: if `split` is neither.
    """
    if split not in ("train", "test"):
        raise ValueError(
            f'sample_problem: expected split "train" or "test"; got {split!r}. '
            f"Evaluate on the test split only."
        )
    while True:  # one draw in five is a test pair, four in five are train pairs: ends quickly
        problem, operands = _draw(rng)
        if split_of(*operands) == split:
            return problem


def format_question(question: str) -> str:
    """The user's turn: the question and the format in which its answer is graded."""
    return f"{question} Answer in \\boxed{{}}."


def _draw(rng: random.Random) -> tuple[ArithmeticProblem, tuple[int, int]]:
    if rng.random() < MULTIPLICATION_SHARE:
        left, right = rng.randint(2, MAX_FACTORS[0]), rng.randint(10, MAX_FACTORS[1])
        if rng.random() < 0.5:
            left, right = right, left
        return ArithmeticProblem(f"{left}*{right}=?", left * right), (left, right)
    left, right = rng.randint(1, MAX_OPERAND), rng.randint(1, MAX_OPERAND)
    if rng.random() < 0.5:
        return ArithmeticProblem(f"{left}+{right}=?", left + right), (left, right)
    left, right = max(left, right), min(left, right)
    return ArithmeticProblem(f"{left}-{right}=?", left - right), (left, right)
