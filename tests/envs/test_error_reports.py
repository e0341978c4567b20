import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs import StepResult
from tinker_rl.envs.error_reports import MAX_CHARACTERS, ErrorReport, ReportedError, report_of
from tinker_rl.types import ModelInput, decode, encode


def raised_by(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def line(function, offset=1):
    return f"{__file__}:{function.__code__.co_firstlineno + offset}"


def divides():
    return 1 / 0


def calls_a_library():
    json.loads("{")


def calls_us():
    StepResult(math.nan, True, ModelInput.empty(), [0])


def raises_a_group():
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ExceptionGroup(
            "both", [error, ExceptionGroup("in", [ValueError("second")])]
        ) from error


@pytest.mark.parametrize("function", [divides, calls_a_library, calls_us])
def test_an_error_is_placed_where_the_users_code_raised_it(function):
    report = report_of(raised_by(function))
    assert report.location == line(function)


def test_an_error_of_nobody_has_no_place():
    assert report_of(ValueError("made, not raised")).location == ""


def test_of_a_group_every_error_is_told():
    report = report_of(raised_by(raises_a_group))
    assert report.error_type == "ExceptionGroup"
    assert report.text == "KeyError: 'first'; ValueError: second"
    assert report.location == line(raises_a_group, 2)
    alone = report_of(ExceptionGroup("one", [ValueError("alone")]))
    assert (alone.error_type, alone.text) == ("ValueError", "alone")


@given(text=st.text(st.characters(), max_size=20), times=st.sampled_from([1, 1000]))
def test_every_text_can_be_stored(text, times):
    report = report_of(ValueError(text * times))
    assert decode(encode(report), ErrorReport) == report
    assert len(report.text) <= MAX_CHARACTERS


def test_an_error_that_cannot_be_told_is_told_all_the_same():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert report_of(Mute()).text == "(its text could not be made: RuntimeError)"


def test_a_report_from_another_process_stays_as_it_is():
    report = ErrorReport("ValueError", "bad", "there.py:3")
    error = pickle.loads(pickle.dumps(ReportedError(report)))
    assert report_of(error) == report
    assert str(error) == "ValueError: bad"
