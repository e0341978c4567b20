import io
import math

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tinker_rl.cli.journal_numbers import (
    TOLERANCE,
    Comparison,
    compare_hashes,
    compare_metrics,
    compare_numbers,
    comparison_table,
    overall,
)

AGREES, ROUNDED, DIFFERS, UNCOMPARED = (
    "agrees bit for bit",
    "agrees to 1e-5",
    "differs",
    "not compared",
)

numbers = st.floats() | st.integers(-(10**6), 10**6)
finite = st.floats(-1e12, 1e12)
names = st.sampled_from(
    ["optim/loss", "optim/ratio_p01", "async/age_3_frac", "env/all/reward/total", "time/step", "x"]
)


@given(number=numbers)
def test_a_number_agrees_with_itself_bit_for_bit(number):
    assert compare_numbers(number, number) == AGREES


@given(old=numbers, new=numbers)
def test_which_of_two_numbers_came_first_does_not_matter(old, new):
    assert compare_numbers(old, new) == compare_numbers(new, old)


@given(number=finite, share=st.floats(-0.9, 0.9))
def test_what_is_within_the_tolerance_agrees(number, share):
    other = number + share * TOLERANCE * max(1.0, abs(number))
    assert compare_numbers(number, other) in (AGREES, ROUNDED)


@given(number=finite, times=st.floats(2, 1e6))
def test_what_is_beyond_the_tolerance_differs(number, times):
    assert compare_numbers(number, number + times * TOLERANCE * max(1.0, abs(number))) == DIFFERS


@given(number=finite, other=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_no_number_agrees_with_one_that_is_not_finite(number, other):
    assert compare_numbers(number, other) == DIFFERS
    assert compare_numbers(math.inf, -math.inf) == DIFFERS


@given(recorded=st.dictionaries(names, finite), recomputed=st.dictionaries(names, finite))
def test_what_was_recorded_has_to_come_again_and_what_was_not_does_not_count(recorded, recomputed):
    rows = {row.name: row for row in compare_metrics(recorded, recomputed)}
    assert rows.keys() == {*recorded, *recomputed} - {"time/step", "x"}
    for name, row in rows.items():
        assert (row.recorded, row.recomputed) == (recorded.get(name), recomputed.get(name))
        if name not in recorded:
            assert row.verdict == UNCOMPARED
        elif name not in recomputed:
            assert row.verdict == DIFFERS
    assert (overall(list(rows.values())) == UNCOMPARED) == (not recorded.keys() & rows.keys())


def rows_of(*verdicts):
    return [
        Comparison(name="optim/loss", recorded=1.0, recomputed=1.0, verdict=verdict)
        for verdict in verdicts
    ]


@given(
    verdicts=st.lists(st.sampled_from([AGREES, ROUNDED, DIFFERS, UNCOMPARED])),
    hashes=st.tuples(*[st.sampled_from([None, "aa", "bb"])] * 2),
)
def test_other_weights_are_put_down_to_rounding_only_where_the_numbers_are(verdicts, hashes):
    rows = rows_of(*verdicts)
    row = compare_hashes(*hashes, rows)
    if None in hashes:
        assert row.verdict == UNCOMPARED
    elif hashes[0] == hashes[1]:
        assert row.verdict == AGREES
    elif ROUNDED in verdicts and DIFFERS not in verdicts:
        assert row.verdict == "other rounding"
        assert overall([*rows, row]) == ROUNDED
    else:
        assert row.verdict == DIFFERS
        assert overall([*rows, row]) == DIFFERS


def test_the_table_shows_both_numbers_their_difference_and_the_verdict():
    console = Console(width=120, file=io.StringIO())
    rows = [
        *compare_metrics({"optim/loss": 0.5, "optim/entropy": 2}, {"optim/loss": 0.75}),
        compare_hashes("0123456789abcdef", "0123456789abcdef", []),
    ]
    console.print(comparison_table(rows))
    lines = [line.split() for line in console.file.getvalue().splitlines()[1:]]
    assert lines == [
        ["optim/loss", "0.5", "0.75", "2.50e-01", "differs"],
        ["optim/entropy", "2", "none", "differs"],
        ["weight", "hash", "0123456789ab", "0123456789ab", "agrees", "bit", "for", "bit"],
    ]
