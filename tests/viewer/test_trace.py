"""The timeline for other viewers, checked against what the trace format asks for."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.errors import DataError
from tinker_rl.viewer.packing import pack
from tinker_rl.viewer.reader import RunReader
from tinker_rl.viewer.timeline import Span
from tinker_rl.viewer.trace import trace_events, write_trace

seconds = st.floats(0, 100)


@given(spans=st.lists(st.tuples(seconds, seconds).map(lambda s: (s[0], s[0] + s[1])), max_size=20))
def test_spans_are_packed_into_as_few_rows_as_overlap_at_a_time(spans):
    rows = pack(spans)
    by_row = defaultdict(list)
    for row, span in zip(rows, spans, strict=True):
        by_row[row].append(span)
    for packed in by_row.values():
        packed.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(packed))
    most = max((sum(b <= at < max(e, b) for b, e in spans) for at, _ in spans), default=0)
    assert len(by_row) <= max(most, 1 if spans else 0) + sum(b == e for b, e in spans)


TURNS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("se"), st.floats(0, 2)), max_size=8)


@st.composite
def rollouts(draw):
    found = []
    for number in range(draw(st.integers(0, 6))):
        at, clock = 1.7e9 + draw(st.floats(0, 20)), defaultdict(float)
        turns = []
        for member, kind, length in draw(TURNS):
            turns.append([member, kind, clock[member], length])
            clock[member] += length
        span = Span(
            lane="rollout",
            name=f"group {number}",
            at=at,
            seconds=max(0.0, max(clock.values(), default=0.0) + draw(st.floats(-2, 1))),
            group=number,
            turns=turns,
        )
        found.append(span)
    return found


@given(spans=rollouts())
@settings(max_examples=50)
def test_turns_lie_inside_of_their_episodes(check_trace, spans):
    events = check_trace(list(trace_events(1, "run", spans, {})))
    num_turns = sum(len(span.turns) for span in spans)
    assert sum(event["name"] in ("samples", "environment") for event in events) == num_turns


def test_the_learner_s_wait_points_to_whom_it_waited_for(check_trace):
    spans = [
        Span(lane="rollout", name="group 4", at=10.0, seconds=5.0, group=4),
        Span(lane="learner", name="waits for groups", at=12.0, seconds=3.1, group=4, step=1),
        Span(lane="learner", name="trains", at=15.1, seconds=2.0, step=1),
        Span(lane="learner", name="waits for groups", at=17.1, seconds=1.0, group=99, step=2),
        Span(lane="run", name="start", at=9.0, seconds=0.0),
    ]
    events = check_trace(list(trace_events(3, "my run", spans, {1: 0.25, 2: 0.5})))
    begin, end = (next(e for e in events if e["ph"] == phase) for phase in "sf")
    assert (begin["ts"], end["ts"]) == (5_999_999, 6_099_999)  # inside of both
    assert sum(event["ph"] == "s" for event in events) == 1
    (counter,) = [event for event in events if event["ph"] == "C"]
    assert (counter["ts"], counter["args"]) == (8_100_000, {"reward": 0.25})
    names = {e["args"]["name"] for e in events if e["name"] in ("thread_name", "process_name")}
    assert names == {"my run", "learner", "rollout 1"}


def test_spans_of_a_lane_that_overlap_lie_in_threads_of_their_own(check_trace):
    spans = [
        Span(lane="evaluation", name="evaluates", at=at, seconds=length, version=version)
        for version, (at, length) in enumerate(
            [(0.0, 5.0), (2.0, 1.0), (4.999999, 1.0), (9.0, 1.0)]
        )
    ]
    events = check_trace(list(trace_events(1, "run", spans, {})))
    slices = [event for event in events if event["ph"] == "X"]
    assert len({event["tid"] for event in slices}) == 2
    assert sorted(event["args"]["version"] for event in slices) == [0, 1, 2, 3]


def test_a_trace_that_cannot_be_written_says_so(folder, tmp_path):
    run = RunReader(folder)
    with pytest.raises(DataError, match="expected a file that can be written"):
        write_trace([run], tmp_path / "no" / "trace.json")
    run.close()
