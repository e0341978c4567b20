"""The picture, drawn on recording consoles of many sizes."""

import io
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tinker_rl.rl.live_view import LivePicture, duration, figure, sparkline

ROW = {
    "env/all/reward/total": 0.512,
    "env/all/correct": 0.634,
    "optim/kl_sample_train_v2": 0.0123,
    "optim/entropy": 1.417,
    "optim/ratio_p99": 1.208,
    "async/staleness_mean": 0.75,
    "async/staleness_max": 2,
    "useful_token_fraction": 0.987,
    "sampling/tokens_per_second": 1234.4,
    "time/sampling": 6.0,
    "time/train": 3.0,
    "time/publish": 1.0,
    "time/total": 10.0,
}
PICTURE = LivePicture(
    title="tiny, runs/a",
    num_done=12,
    num_steps=40,
    seconds_a_step=2.5,
    seconds_left=70.0,
    rewards=(0.1, None, 0.3, 0.512),
    accuracies=(0.634,),
    metrics=ROW,
    evaluations=((0, 0.25), (10, 0.75)),
    doing="",
    doing_seconds=3.0,
    awaited=391,
    awaited_seconds=4.0,
    num_in_flight=20,
    num_finished=12,
    groups_per_batch=32,
    num_ahead=5,
    num_dropped=2,
    said="group 3 is dropped: [bold]x[/bold]",
    said_seconds=61.0,
)


def drawn(picture, width=80, height=24):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    with console.capture() as capture:
        console.print(picture)
    return re.sub(r"\x1b\[[0-9;]*m", "", capture.get()).splitlines()


def changed(**fields):
    return msgspec.structs.replace(PICTURE, **fields)


def test_eighty_columns_show_every_figure():
    text = "\n".join(drawn(PICTURE))
    for words in (
        r"tiny, runs/a",
        r"step 12/40 .* 30%  2\.5 s a step  ETA 1:10",
        r"reward +0\.512 +\S+ +KL +0\.012 +tokens/s +1234",
        r"accuracy +0\.634 +\S+ +entropy +1\.417 +useful +98\.7%",
        r"evaluation +0\.750 +from 0\.250 +ratio p99 +1\.208 +age +0\.750 / 2",
        r"waits for groups 60%  ▓ trains 30%  ░ publishes 10%",
        r"learner +waits for group 391, 0:04 under way",
        r"12/32 of this batch done, 2 dropped, 20 in flight, 5 ahead",
        r"said +1:01 ago: group 3 is dropped: \[bold\]x\[/bold\]",
    ):
        assert re.search(words, text), words


@pytest.mark.parametrize(
    ("width", "there", "gone"),
    [(60, ("KL", "entropy"), ("tokens/s", "useful")), (48, ("reward",), ("KL", "tokens/s"))],
)
def test_narrow_terminals_lose_whole_columns(width, there, gone):
    text = "\n".join(drawn(PICTURE, width, 20))
    assert all(word in text for word in there)
    assert not any(word in text for word in gone)
    assert "2 dropped" in text
    assert "ETA 1:10" in text


def test_the_bar_is_divided_as_the_time_was():
    (bar,) = [line for line in drawn(PICTURE) if "last step" in line]
    cells = [bar.count(glyph) for glyph in "█▓░"]
    assert cells == pytest.approx([0.6 * sum(cells), 0.3 * sum(cells), 0.1 * sum(cells)], abs=1)


words = st.text(st.characters() | st.sampled_from("\n\x1b\x1e\u202e\b"), max_size=100)
maybe = st.none() | st.floats(allow_nan=True)
pictures = st.builds(
    LivePicture,
    title=words,
    num_done=st.integers(0, 10**6),
    num_steps=st.integers(0, 10**6),
    seconds_a_step=st.none() | st.floats(0, 1e6),
    seconds_left=st.none() | st.floats(0, 1e9),
    rewards=st.lists(maybe, max_size=60).map(tuple),
    accuracies=st.lists(maybe, max_size=60).map(tuple),
    metrics=st.dictionaries(st.sampled_from(list(ROW)), st.floats(-1e9, 1e9)),
    evaluations=st.lists(st.tuples(st.integers(0, 10**6), st.floats()), max_size=3).map(tuple),
    doing=words,
    doing_seconds=st.floats(0, 1e6),
    awaited=st.none() | st.integers(0, 10**9),
    awaited_seconds=st.none() | st.floats(0, 1e6),
    num_in_flight=st.integers(0, 10**6),
    num_finished=st.integers(0, 10**6),
    groups_per_batch=st.integers(0, 10**6),
    num_ahead=st.integers(0, 10**6),
    num_dropped=st.integers(0, 10**6),
    said=words,
    said_seconds=st.floats(0, 1e6),
)


@given(picture=pictures, width=st.integers(12, 200), height=st.integers(4, 60))
def test_it_is_never_wider_nor_higher_than_the_terminal(picture, width, height):
    lines = drawn(picture, width, height)
    assert len(lines) < height
    assert all(cell_len(line) <= width - 2 for line in lines)  # so that ^C fits beside it
    assert all(line.isprintable() for line in lines)  # nothing in it moves the cursor


@given(picture=pictures, width=st.integers(12, 200), height=st.integers(4, 60))
def test_it_knows_its_extent(picture, width, height):
    lines = drawn(picture, width, height)
    size = Console(width=width, height=height).size
    assert picture.extent(size) == (max(map(cell_len, lines)), len(lines))


@given(value=st.floats(-1e12, 1e12))
def test_a_figure_reads_back(value):
    assert float(figure(value)) == pytest.approx(value, rel=6e-3, abs=5e-4 * (abs(value) >= 1e-3))


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), width=st.integers(1, 60))
def test_a_curve_has_a_bar_a_step_and_rises_with_the_values(values, width):
    line = sparkline(values, width)
    shown = values[-width:]
    assert len(line) == len(shown)
    by_value = [bar for _, bar in sorted(zip(shown, line, strict=True))]
    assert by_value == sorted(by_value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"doing": "training"}, "training, 0:03"),
        ({"awaited_seconds": None}, "waits for group 391, which has not started"),
        ({"awaited": None}, "waits, 0:03"),
    ],
)
def test_it_says_what_the_learner_is_at(fields, words):
    (line,) = [line for line in drawn(changed(**fields)) if "learner" in line]
    assert words in line


def test_before_the_first_step_there_are_no_figures():
    nothing = changed(metrics={}, rewards=(), accuracies=(), evaluations=(), said="", num_done=0)
    text = "\n".join(drawn(nothing))
    assert "0%" in text
    assert "last step" not in text
    assert "said" not in text


@given(seconds=st.floats(0, 1e6))
def test_a_duration_reads_back(seconds):
    parts = [int(part) for part in duration(seconds).split(":")]
    total = 0
    for part in parts:
        total = 60 * total + part
    assert total == round(seconds)
    assert all(part < 60 for part in parts[1:])
