"""The arithmetic problems: right answers, disjoint splits, the same draws everywhere."""

import random
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs.arithmetic_problems import (
    MAX_FACTORS,
    MAX_OPERAND,
    TEST_SHARE,
    ArithmeticProblem,
    format_question,
    sample_problem,
    split_of,
)

splits = st.sampled_from(["train", "test"])
seeds = st.integers(0, 2**32)


def operands(problem: ArithmeticProblem) -> tuple[int, str, int]:
    match = re.fullmatch(r"(\d+)([-+*])(\d+)=\?", problem.question)
    assert match, problem
    return int(match[1]), match[2], int(match[3])


@given(seed=seeds, split=splits)
def test_every_problem_is_a_right_sum_of_its_split(seed, split):
    problem = sample_problem(random.Random(seed), split)
    left, operator, right = operands(problem)
    results = {"+": left + right, "-": left - right, "*": left * right}
    assert problem.answer == results[operator]
    assert 0 <= problem.answer < 100
    assert split_of(left, right) == split


@given(seed=seeds, split=splits)
def test_operands_stay_in_range(seed, split):
    left, operator, right = operands(sample_problem(random.Random(seed), split))
    if operator == "*":
        small, large = sorted((left, right))
        assert 2 <= small <= MAX_FACTORS[0]
        assert 10 <= large <= MAX_FACTORS[1]
    else:
        assert min(left, right) >= 1
        assert max(left, right) <= MAX_OPERAND


@given(seed=seeds, split=splits)
def test_equal_generators_draw_equal_problems(seed, split):
    first, second = random.Random(seed), random.Random(seed)
    for _ in range(5):
        assert sample_problem(first, split) == sample_problem(second, split)


@given(left=st.integers(0, 10**9), right=st.integers(0, 10**9))
def test_the_order_of_operands_does_not_change_the_split(left, right):
    assert split_of(left, right) == split_of(right, left)


def test_no_pair_of_operands_is_asked_in_both_splits():
    rng = random.Random(0)
    pairs = {
        split: {
            tuple(sorted((left, right)))
            for left, _, right in (operands(sample_problem(rng, split)) for _ in range(5000))
        }
        for split in ("train", "test")
    }
    assert not pairs["train"] & pairs["test"]
    assert len(pairs["train"]) > len(pairs["test"]) > 100


def test_the_splits_are_pinned_for_ever():
    # A change here would put sums that the shipped model was trained on into the test split.
    held_out = [(2, right) for right in range(1, 50) if split_of(2, right) == "test"]
    assert held_out == [(2, 1), (2, 2), (2, 6), (2, 23), (2, 27), (2, 33), (2, 37)]
    assert split_of(17, 25) == "train"
    assert split_of(23, 24) == "test"


def test_about_the_stated_share_of_pairs_is_held_out():
    pairs = [(a, b) for a in range(1, MAX_OPERAND + 1) for b in range(a, MAX_OPERAND + 1)]
    share = sum(split_of(*pair) == "test" for pair in pairs) / len(pairs)
    assert share == pytest.approx(TEST_SHARE, abs=0.03)


def test_all_three_operations_are_asked_in_both_splits():
    for split in ("train", "test"):
        rng = random.Random(1)
        assert {operands(sample_problem(rng, split))[1] for _ in range(500)} == set("+-*")


@given(split=st.text().filter(lambda text: text not in ("train", "test")))
def test_an_unknown_split_is_refused(split):
    with pytest.raises(ValueError, match=r"sample_problem: expected .*; got .*\. "):
        sample_problem(random.Random(0), split)


def test_the_question_names_the_asked_format():
    assert format_question("17+25=?") == "17+25=? Answer in \\boxed{}."


def test_importing_the_problems_leaves_torch_alone():
    code = (
        "import sys, tinker_rl.envs.arithmetic_problems; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
