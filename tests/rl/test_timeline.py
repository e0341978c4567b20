"""Spans of a run's time, whatever happens to the file."""

import json
import logging
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.rl.timeline import SHORTEST_WAIT, Timeline


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def spans(path):
    """All that can be read."""
    return [json.loads(line) for line in path.read_bytes().splitlines() if line]


@given(waits=st.lists(st.floats(0, 5), max_size=12), facts=st.dictionaries(st.text(), st.text()))
def test_what_is_written_is_what_went_on(tmp_path_factory, waits, facts):
    facts = {f"fact {name}": value for name, value in facts.items()}
    path = tmp_path_factory.mktemp("run") / "timeline.jsonl"
    clock = Clock()
    before = time.time()
    with Timeline(path, clock) as timeline:
        for number, wait in enumerate(waits):
            with timeline.spanning("rollout", f"group {number}", **facts):
                clock.now += wait
    start, *found, end = spans(path)
    assert before <= start["at"] <= time.time()
    assert (start["name"], end["name"]) == ("start", "end")
    assert end["at"] - start["at"] == pytest.approx(sum(waits), abs=1e-5)
    at = start["at"]
    for number, (span, wait) in enumerate(zip(found, waits, strict=True)):
        assert span["at"] == pytest.approx(at, abs=1e-5)
        assert span["seconds"] == pytest.approx(wait, abs=1e-6)
        assert (span["lane"], span["name"]) == ("rollout", f"group {number}")
        assert {name: span[name] for name in facts} == facts
        at += wait


def test_a_second_start_adds_to_the_first_also_after_a_torn_line(tmp_path):
    path = tmp_path / "timeline.jsonl"
    with Timeline(path):
        pass
    torn = path.read_bytes()[:-9]
    path.write_bytes(torn)
    with Timeline(path) as timeline:
        timeline.mark("again")
    *whole, last = [line for line in path.read_bytes().splitlines() if line][:2]
    assert [json.loads(line)["name"] for line in whole] == ["start"]
    assert last == torn.splitlines()[-1]
    assert [span["name"] for span in spans_after(path, torn)] == ["start", "again", "end"]


def spans_after(path, torn):
    return [json.loads(line) for line in path.read_bytes()[len(torn) :].splitlines() if line]


def test_short_waits_are_not_worth_a_line_and_what_is_raised_inside_is(tmp_path):
    path, clock = tmp_path / "timeline.jsonl", Clock()
    with Timeline(path, clock) as timeline:
        with timeline.waiting("admission", "short"):
            clock.now += 0.9 * SHORTEST_WAIT
        with suppress(KeyError), timeline.waiting("admission", "long"):
            clock.now += 2 * SHORTEST_WAIT
            raise KeyError
    assert [span["name"] for span in spans(path)] == ["start", "long", "end"]


def test_a_reader_sees_a_span_after_a_second(tmp_path):
    path, clock = tmp_path / "timeline.jsonl", Clock()
    with Timeline(path, clock) as timeline:
        timeline.span("learner", "trains", clock.now)
        assert [span["name"] for span in spans(path)] == ["start"]  # at once: a kill may come
        clock.now += 1
        timeline.span("learner", "publishes", clock.now)
        assert [span["name"] for span in spans(path)] == ["start", "trains", "publishes"]


def test_a_disk_that_cannot_be_written_to_ends_the_record_and_not_the_run(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), Timeline(tmp_path / "no" / "timeline.jsonl") as timeline:
        timeline.span("learner", "trains", 0.0)
    assert "the run goes on" in caplog.text
    full = tmp_path / "timeline.jsonl"
    full.symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING), Timeline(full) as timeline:
        timeline.span("learner", "trains", 0.0)
        timeline.flush()
        timeline.span("learner", "publishes", 0.0)
    assert "No space left" in caplog.text


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Timeline(None) as timeline:
        timeline.span("learner", "trains", 0.0)
    assert list(tmp_path.iterdir()) == []


def test_what_comes_after_the_end_is_not_written(tmp_path):
    """A run that was interrupted saves its checkpoint after its timeline has ended."""
    path, clock = tmp_path / "timeline.jsonl", Clock()
    with Timeline(path, clock) as timeline:
        pass
    clock.now += 60
    timeline.span("learner", "saves", 100.0)
    assert [span["name"] for span in spans(path)] == ["start", "end"]
