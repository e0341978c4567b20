import logging
import threading
import time
from decimal import Decimal
from fractions import Fraction

import anyio
import anyio.to_thread
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tinker_rl.envs import extract_boxed, grade_answer, gsm8k_final_answer

plain = st.text(st.characters(exclude_characters="\\{}"), max_size=8)
balanced = st.recursive(
    plain | st.sampled_from(["\\{", "\\}", "\\$", "\\frac"]),
    lambda inner: st.lists(inner, max_size=3).map("".join) | inner.map("{{{}}}".format),
    max_leaves=6,
)
numbers = st.builds(
    lambda n, d: Decimal(n).scaleb(-d), st.integers(-(10**9), 10**9), st.integers(0, 4)
)


def spellings(value):
    """The same number, as different answers write it."""
    decimal = f"{value:.4f}".rstrip("0").rstrip(".")
    grouped = f"{value:,.4f}".rstrip("0").rstrip(".")
    sign = "-" if value < 0 else ""
    top, bottom = abs(Fraction(value)).as_integer_ratio()
    return [
        decimal,
        f"{value:.6f}",
        grouped,
        grouped.replace(",", "{,}"),
        f"{sign}\\${grouped.lstrip('-')}",
        f"{grouped} eggs",
        f"{decimal}\\text{{ dollars}}",
        f"{decimal}\\%",
        f"x = {decimal}",
        f"{sign}\\frac{{{top}}}{{{bottom}}}",
        f"{sign}{top}/{bottom}",
        f" {decimal}. " if bottom == 1 else decimal,
    ]


# ------------------------------------------------------------------------------------ the box


@given(before=plain, content=balanced, after=plain)
def test_the_content_of_a_box_is_found(before, content, after):
    assert extract_boxed(f"{before}\\boxed{{{content}}}{after}") == content


@given(first=balanced, last=balanced, between=plain)
def test_of_several_boxes_the_last_counts(first, last, between):
    assert extract_boxed(f"\\boxed{{{first}}}{between}\\boxed{{{last}}}") == last


@given(content=balanced, opened=st.integers(1, 3))
def test_a_box_that_was_cut_off_is_none(content, opened):
    assert extract_boxed("\\boxed" + "{" * opened + content) is None
    assert extract_boxed("\\boxed{1} \\boxed" + "{" * opened + content) == "1"


@given(text=st.text(st.characters()))
def test_text_without_a_box_has_no_answer(text):
    assume("\\boxed" not in text)
    assert extract_boxed(text) is None


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed {3}", "3"),
        ("\\boxed{\\boxed{5}}", "5"),
        ("\\boxed{}", ""),
        ("\\boxed 3", None),
        ("} \\boxed{3} {", "3"),
        ("{\\boxed{3}", "3"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed{1}\\\\boxed{2}", "1"),
        ("\\boxed{a\nb}", "a\nb"),
        ("\\fbox{3}", None),
    ],
)
def test_boxes_as_models_write_them(text, content):
    assert extract_boxed(text) == content


def test_a_long_run_of_open_boxes_takes_no_time():
    start = time.process_time()
    assert extract_boxed("\\boxed{" * 20_000) is None
    assert time.process_time() - start < 1


# -------------------------------------------------------------------------------- the answer


@given(value=numbers, data=st.data())
def test_all_spellings_of_a_number_are_right(value, data):
    given_answer = data.draw(st.sampled_from(spellings(value)))
    reference = data.draw(st.sampled_from(spellings(value)))
    assert grade_answer(given_answer, reference)


@given(value=numbers, other=numbers, data=st.data())
def test_no_spelling_of_another_number_is_right(value, other, data):
    assume(value != other)
    given_answer = data.draw(st.sampled_from(spellings(value)))
    reference = data.draw(st.sampled_from(spellings(other)))
    assert not grade_answer(given_answer, reference)


@settings(max_examples=12, deadline=None)
@given(left=st.integers(0, 99), right=st.integers(1, 99), delta=st.integers(-3, 3))
@example(left=3, right=6, delta=0)
def test_arithmetic_is_right_if_it_comes_to_the_number(left, right, delta):
    for text, value in [
        (f"{left}\\times {right}", left * right),
        (f"{left}+{right}", left + right),
        (f"{left}-{right} = {left - right}", left - right),
        (f"({left})", left),
        (f"{right}\\sqrt{{{left * left}}}", left * right),
        (f"{right}^{{2}}", right * right),
    ]:
        assert grade_answer(text, str(value + delta)) == (delta == 0)


@pytest.mark.parametrize(
    ("given_answer", "reference"),
    [
        ("2\\sqrt{3}", "\\sqrt{12}"),
        ("\\frac{\\pi}{2}", "0.5\\pi"),
        ("1.5 \\times 10^{3}", "1500"),
        ("0.333333", "\\frac{1}{3}"),
        ("10^{-2}", "0.01"),
        ("\\left(18\\right)", "18"),
    ],
)
def test_arithmetic_may_be_the_reference_too(given_answer, reference):
    assert grade_answer(given_answer, reference)
    assert grade_answer(reference, given_answer)


@settings(max_examples=150, deadline=None)
@given(answer=st.text(st.characters()) | st.text(st.sampled_from("0123456789+-*/(){}^.= \\,")))
def test_anything_may_be_given_as_an_answer(answer):
    assert grade_answer(answer, "18.000001") in (True, False)


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^9}",
        "9^9^9",
        "9**9**9",
        "(((9^9)^9)^9)^9",
        "((9^{99})^{99})^{99}",
        "9^{(9^9)}",
        "9^(99999999)",
        "2^{99999999}",
        "99999999!",
        "((9!)!)!",
        "\\frac{1}{" * 20 + "1" + "}" * 20,
        "(" * 99,
        "(" * 49 + "1" + ")" * 49,
        "\\sqrt{" * 12 + "2" + "}" * 12,
        "1" * 5000,
        "\\int_0^\\infty e^{-x^2}",
        "\\sum_{n=1}^{999999999} n",
        "1e999999999",
        "+" * 90,
        "9^{1.2.3}",
        "9^{-9999}",
        "9^{}",
        "9^\\frac{1}{2}",
        "\\sqrt[9]{9}",
        "x^2",
        "eggs",
    ],
)
def test_what_could_run_long_or_cannot_be_read_is_wrong_at_once(answer):
    grade_answer("1+1", "2")  # math-verify is imported once
    start = time.process_time()
    assert not grade_answer(answer, "18")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("reference", ["", "eggs", "x^2", "17 or 18", "9^{9^9}", "(1,2)", "1/0/"])
def test_a_reference_that_is_no_number_is_an_error_not_a_grade(reference):
    with pytest.raises(ValueError, match="expected a reference"):
        grade_answer("18", reference)


def test_grading_works_in_threads_and_in_both_event_loops(backend):
    pairs = [(f"{n}\\times {n}", str(n * n + n % 2)) for n in range(20)]
    results = {}

    async def grade(given_answer, reference):
        results[given_answer] = await anyio.to_thread.run_sync(
            grade_answer, given_answer, reference
        )

    async def grade_all():
        assert threading.current_thread() is threading.main_thread()
        assert grade_answer("2\\times 2", "4")
        async with anyio.create_task_group() as tg:
            for pair in pairs:
                tg.start_soon(grade, *pair)

    anyio.run(grade_all, backend=backend)
    assert results == {f"{n}\\times {n}": n % 2 == 0 for n in range(20)}


def test_math_verify_does_not_complain_about_the_timeouts_that_it_lacks(caplog):
    with caplog.at_level(logging.WARNING):
        assert grade_answer("3\\times 7", "21")
    assert caplog.records == []


# ------------------------------------------------------------------------------------- GSM8K


@given(value=st.integers(-(10**9), 10**9), solution=st.text())
def test_the_final_answer_of_a_solution_is_the_number_after_its_last_mark(value, solution):
    assert gsm8k_final_answer(f"{solution}\n#### {value:,}") == str(value)
    assert gsm8k_final_answer(f"#### 7 {solution}\n#### {value}\n") == str(value)


@pytest.mark.parametrize("text", ["", "18", "####", "#### ", "#### eggs", "#### 1 or 2", "### 18"])
def test_a_solution_without_a_final_number_is_refused(text):
    with pytest.raises(ValueError, match="'#### ' and a number"):
        gsm8k_final_answer(text)
