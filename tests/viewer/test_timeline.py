import json

from tinker_rl.viewer.plain import encode
from tinker_rl.viewer.timeline import MOST_TURNS, Span, SpanTable

ROLLOUT = {
    "lane": "rollout",
    "name": "group 7",
    "at": 100.25,
    "seconds": 2.0,
    "group": 7,
    "version": 1,
    "outcome": "rolled_out",
    "turns": [[0, "s", 0.0, 1.5], [0, "e", 1.5, 0.25]],
}
WAIT = {"lane": "learner", "name": "waits for groups", "at": 99.0, "seconds": 3.25, "step": 0}


def table_of(*rows):
    table = SpanTable()
    assert all(table.add(row) for row in rows)
    return table


def decoded(columns):
    return json.loads(encode(columns))


def test_spans_are_columns_by_their_beginning():
    found = decoded(table_of(ROLLOUT, WAIT | {"group": 7}).columns())
    assert found == {
        "origin": 99.0,
        "lane": [1, 0],
        "lanes": ["rollout", "learner"],
        "name": [1, 0],
        "names": ["group 7", "waits for groups"],
        "start": [0.0, 1.25],
        "seconds": [3.25, 2.0],
        "group": [7, 7],
        "step": [0, None],
        "version": [None, 1],
        "facts": [None, {"outcome": "rolled_out"}],
        "turns": [None, ROLLOUT["turns"]],
    }


def test_a_run_without_a_timeline_has_empty_columns():
    found = decoded(SpanTable().columns())
    assert found["origin"] == 0
    assert found["start"] == found["facts"] == []


def test_turns_are_left_out_where_there_are_too_many_but_not_for_the_trace():
    many = ROLLOUT | {"turns": ROLLOUT["turns"] * (MOST_TURNS // 4)}
    assert table_of(many).has_all_turns
    table = table_of(many, many)
    assert not table.has_all_turns
    assert decoded(table.columns())["turns"] == [None, None]
    assert [len(span.turns) for span in table.spans()] == [MOST_TURNS // 2] * 2


def test_spans_come_back_as_they_were():
    rollout, wait = table_of(ROLLOUT, WAIT).spans()
    assert rollout == Span(
        lane="rollout",
        name="group 7",
        at=100.25,
        seconds=2.0,
        group=7,
        version=1,
        facts={"outcome": "rolled_out"},
        turns=ROLLOUT["turns"],
    )
    assert (wait.step, wait.group, wait.facts, wait.turns) == (0, None, None, None)


def test_a_row_that_is_no_span_is_refused():
    table = SpanTable()
    assert not table.add({"lane": "rollout", "name": "x", "at": None, "seconds": 1})
    assert not table.add({})
    assert table.add({"at": 1, "seconds": 1, "lane": None, "name": "\ud800", "group": "x"})
    assert decoded(table.columns())["names"] == ["?"]
    assert len(table) == 1
