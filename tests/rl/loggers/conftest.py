"""A logger that keeps what it gets, and a run's rows."""

import threading
from types import SimpleNamespace

import pytest

from tinker_rl.rl.files import JsonLines
from tinker_rl.rl.loggers import RowLog

DEADLINE = 20


def step_row(step, value=0.5):
    return {"step": step, "progress/batch": step, "env/all/reward/total": value}


def evaluation_row(version, value=0.5):
    return {"step": version, "test/env/all/correct": value}


class Keeps:
    """Keeps (step, names) of every row; fails, or waits, where it is told to."""

    def __init__(self, fails_at=(), can_forget=False, starts=True):
        self.rows = []
        self.runs = []
        self.num_finished = 0
        self.fails_at = set(fails_at)
        self.can_forget = can_forget
        self.starts = starts
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_waiting = threading.Event()

    def start(self, run):
        self.runs.append(run)
        if not self.starts:
            raise ConnectionError("no server\nthere")
        return self.can_forget

    def log(self, step, metrics):
        self.is_waiting.set()
        assert self.may_go_on.wait(DEADLINE)
        if step in self.fails_at:
            raise OSError("No space left on device")
        assert all(isinstance(value, float) for value in metrics.values())
        self.rows.append((step, tuple(sorted(metrics))))

    def finish(self):
        self.num_finished += 1


class Start:
    """One start of a run: its log, and the lines that were said."""

    def __init__(self, folder, loggers):
        self.lines = []
        self.rows = JsonLines(folder / "metrics.jsonl")
        options = {"learning_rate": 0.5, "limits": {"max_turns": 3}}
        self.log = RowLog(self.rows, loggers, "recipe", options, self.lines.append)


@pytest.fixture(scope="session")
def kit():
    return SimpleNamespace(
        Keeps=Keeps, Start=Start, step_row=step_row, evaluation_row=evaluation_row
    )
