from tinker_rl.rl.loggers.logger import LoggedRun
from tinker_rl.rl.loggers.sender import MAX_WAITING_ROWS, Sender
from tinker_rl.rl.loggers.sent import SentRows

NUM_TOO_MANY = 7


def test_rows_that_wait_are_bounded_and_those_left_out_are_counted(kit, tmp_path):
    keeps, lines = kit.Keeps(), []
    keeps.may_go_on.clear()
    sent = SentRows(tmp_path)
    sender = Sender("keeps", keeps, sent, lines.append)
    run = LoggedRun(id="a", project="b", log_dir=tmp_path, config={}, cut_from=None)
    sender.start(run, [])
    sender.put(kit.step_row(0))
    assert keeps.is_waiting.wait(20)  # it is at the first row now; the others wait
    for step in range(1, 1 + MAX_WAITING_ROWS + NUM_TOO_MANY):
        sender.put(kit.step_row(step))
    (line,) = lines
    assert line.startswith(f"keeps: does not keep up: {MAX_WAITING_ROWS} rows wait")

    sender.close()
    sender.sum_up()
    assert lines[1].startswith(
        f"keeps: was not done in time, and {MAX_WAITING_ROWS + NUM_TOO_MANY} rows may be missing"
    )
    keeps.may_go_on.set()
    sender.wait(60)
    sender.sum_up()
    assert [step for step, _ in keeps.rows] == list(range(1 + MAX_WAITING_ROWS))
    assert lines[2] == f"keeps: {NUM_TOO_MANY} rows are missing there. metrics.jsonl has them all."
    assert keeps.num_finished == 1


def test_only_numbers_are_logged(kit, tmp_path):
    keeps = kit.Keeps()
    sender = Sender("keeps", keeps, SentRows(tmp_path), print)
    run = LoggedRun(id="a", project="b", log_dir=tmp_path, config={}, cut_from=None)
    sender.start(run, [{"step": 3, "a": 1, "b": None, "c": "text", "d": True, "e": 0.5}])
    sender.close()
    sender.wait(20)
    assert keeps.rows == [(3, ("a", "d", "e"))]
