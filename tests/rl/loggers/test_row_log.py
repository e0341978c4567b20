import threading

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

STEP = ("env/all/reward/total", "progress/batch")
EVALUATION = ("test/env/all/correct",)


@st.composite
def schedules(draw):
    """Steps, evaluations of versions that are done some steps later, and ends of starts."""
    events, owed = [], []
    for step in range(draw(st.integers(0, 6))):
        events.append(("step", step))
        if draw(st.booleans()):
            owed.append(step + 1)
        while owed and draw(st.booleans()):
            events.append(("evaluation", owed.pop(0)))
        if draw(st.integers(0, 3)) == 0:
            events.append(("start", None))
    return events


@settings(max_examples=25)
@given(events=schedules(), data=st.data())
def test_every_row_gets_there_once_over_all_starts(kit, tmp_path_factory, events, data):
    folder = tmp_path_factory.mktemp("run")
    keeps, written = kit.Keeps(), []
    start = kit.Start(folder, {"keeps": keeps})

    for kind, number in events:
        if kind == "start":
            anyio.run(start.log.aclose, backend="trio")
            start = kit.Start(folder, {"keeps": keeps} if data.draw(st.booleans()) else {})
            continue
        row = kit.step_row(number) if kind == "step" else kit.evaluation_row(number)
        start.log.append(row)
        written.append((number, STEP if kind == "step" else EVALUATION))
    anyio.run(start.log.aclose, backend="trio")
    last = kit.Start(folder, {"keeps": keeps})
    anyio.run(last.log.aclose, backend="trio")

    assert sorted(keeps.rows) == sorted(written)
    for kind in (STEP, EVALUATION):
        in_order = [step for step, names in keeps.rows if names == kind]
        assert in_order == sorted(in_order)
    assert keeps.num_finished == len(keeps.runs)
    assert len({run.id for run in keeps.runs}) == 1
    assert last.lines == []


def test_what_cannot_start_is_said_once_and_made_good_later(kit, tmp_path, backend):
    start = kit.Start(tmp_path, {"fails": kit.Keeps(starts=False), "works": kit.Keeps()})
    for step in range(3):
        start.log.append(kit.step_row(step))
    anyio.run(start.log.aclose, backend=backend)
    (line,) = start.lines
    assert line.startswith("fails: could not start, and the run goes on without it. Connection")
    assert "no server there." in line
    assert [row["step"] for row in start.rows.read()] == [0, 1, 2]

    mended = kit.Keeps()
    anyio.run(kit.Start(tmp_path, {"fails": mended}).log.aclose, backend=backend)
    assert [step for step, _ in mended.rows] == [0, 1, 2]


def test_rows_that_fail_cost_no_others(kit, tmp_path, backend):
    keeps = kit.Keeps(fails_at={1, 2})
    start = kit.Start(tmp_path, {"keeps": keeps})
    for step in range(5):
        start.log.append(kit.step_row(step))
    anyio.run(start.log.aclose, backend=backend)
    assert [step for step, _ in keeps.rows] == [0, 3, 4]
    assert [row["step"] for row in start.rows.read()] == [0, 1, 2, 3, 4]
    assert ["No space left" in line for line in start.lines] == [True, False]
    assert start.lines[1] == ("keeps: 2 rows are missing there. metrics.jsonl has them all.")


def test_a_note_that_cannot_be_written_stops_nothing(kit, tmp_path, backend):
    (tmp_path / "loggers.json").mkdir()
    keeps = kit.Keeps()
    start = kit.Start(tmp_path, {"keeps": keeps})
    for step in range(3):
        start.log.append(kit.step_row(step))
    anyio.run(start.log.aclose, backend=backend)
    assert [step for step, _ in keeps.rows] == [0, 1, 2]
    assert "loggers.json" in start.lines[0]


def test_a_logger_that_hangs_holds_up_neither_the_run_nor_its_end(kit, tmp_path, backend):
    keeps = kit.Keeps()
    keeps.may_go_on.clear()
    start = kit.Start(tmp_path, {"keeps": keeps})
    for step in range(3):
        start.log.append(kit.step_row(step))  # returns, though nothing is taken in

    async def end():
        with anyio.move_on_after(0.1) as scope:
            await start.log.aclose()
        return scope.cancelled_caught

    assert anyio.run(end, backend=backend)
    (thread,) = [t for t in threading.enumerate() if t.name == "logger keeps"]
    assert thread.daemon  # the program may end all the same
    keeps.may_go_on.set()
    thread.join(20)
    assert keeps.num_finished == 1


@pytest.mark.parametrize("can_forget", [False, True])
def test_steps_that_were_cut_are_not_there_twice(kit, tmp_path, backend, can_forget):
    first = kit.Start(tmp_path, {"keeps": kit.Keeps()})
    for step in range(4):
        first.log.append(kit.step_row(step))
        first.log.append(kit.evaluation_row(step + 1))
    anyio.run(first.log.aclose, backend=backend)

    # The journal lost its end: steps 2 and 3, and evaluations 3 and 4.
    first.rows.replace(first.rows.read()[:4])
    keeps = kit.Keeps(can_forget=can_forget)
    second = kit.Start(tmp_path, {"keeps": keeps})
    for step in range(2, 6):
        second.log.append(kit.step_row(step))
    second.log.append(kit.evaluation_row(5))
    anyio.run(second.log.aclose, backend=backend)

    assert keeps.runs[0].cut_from == 2
    steps = [step for step, names in keeps.rows if names == STEP]
    evaluations = [step for step, names in keeps.rows if names == EVALUATION]
    if can_forget:
        # Evaluation 2 is among what was forgotten, and still in the file.
        assert (steps, evaluations, second.lines) == ([2, 3, 4, 5], [2, 5], [])
    else:
        assert (steps, evaluations) == ([4, 5], [5])
        (line,) = second.lines
        assert line.startswith("keeps: has steps 2 to 3, which the run makes again")
