import pytest

from tinker_rl.viewer.metrics import MetricRows, is_training_row


def columns(*rows, is_ordered=True):
    table = MetricRows(is_ordered=is_ordered)
    for row in rows:
        table.add(row)
    return table.columns()


def test_rows_become_series_with_null_where_a_row_says_nothing():
    rows = [{"step": 0, "progress/batch": 0, "a": 1.5}, {"step": 1, "b": True}]
    rows += [{"step": 3, "a": float("nan"), "b": float("inf"), "c": "text", "d": 2**80}]
    assert columns(*rows) == {
        "steps": [0, 1, 3],
        "series": {"a": [1.5, None, None], "b": [None, 1, None], "d": [None, None, float(2**80)]},
    }


def test_a_run_that_goes_back_takes_its_later_rows_along():
    rows = [{"step": n, "a": n} for n in (0, 1, 2, 3, 1, 2)]
    assert columns(*rows[:5]) == {"steps": [0, 1], "series": {"a": [0, 1]}}
    assert columns(*rows)["steps"] == [0, 1, 2]


def test_evaluations_come_in_any_order_and_the_last_of_a_version_holds():
    rows = [{"step": 5, "test/a": 1}, {"step": 0, "test/a": 2}, {"step": 5, "test/a": 3}]
    found = columns(*rows, is_ordered=False)
    assert found == {"steps": [0, 5], "series": {"test/a": [2, 3]}}


def test_rows_without_a_step_are_counted():
    assert columns({"loss": 2.0}, {"loss": 1.0})["steps"] == [0, 1]


def test_names_are_text_whatever_the_file_had():
    assert list(columns({"step": 0, "a\ud800": 1})["series"]) == ["a?"]


@pytest.mark.parametrize(
    ("row", "is_rl", "is_training"),
    [
        ({"step": 1, "progress/batch": 1, "test/x": 1}, True, True),
        ({"step": 1, "test/env/all/correct": 1}, True, False),
        ({"step": 1, "my/accuracy": 1}, True, False),
        ({"step": 1, "train_mean_nll": 1}, False, True),
        ({"step": 1, "test/nll": 1}, False, False),
    ],
)
def test_rows_of_training_and_evaluation_are_told_apart(row, is_rl, is_training):
    assert is_training_row(row, is_rl) == is_training
