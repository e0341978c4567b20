"""The real wandb and trackio, in a program of their own: they leave threads, and are global."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK, HEADER = 32768, 7


def records(path):
    """What is in a `.wandb` file: LevelDB's log format around wandb's own messages."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), HEADER, []
    assert data.startswith(b":W&B")
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts.append(data[at + HEADER : at + HEADER + length])
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def history(record):
    row = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for item in record.history.item
    }
    return {name: value for name, value in row.items() if not name.startswith("_")}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder that the program left, and what it printed."""
    folder = tmp_path_factory.mktemp("loggers")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    ours = {"HOME": str(folder), "TRACKIO_DIR": str(folder / "trackio")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("two_starts.py")), folder],
        env=kept | ours | {"WANDB_ERROR_REPORTING": "false"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=100,
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output
    return folder, output


def test_both_starts_are_the_same_run_of_wandb_with_every_row_once(found):
    folder, _ = found
    run_id = json.loads((folder / "run" / "loggers.json").read_bytes())["id"]
    files = sorted((folder / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-{run_id}.wandb"] * 2

    read = [record for path in files for record in records(path)]
    rows = [history(record) for record in read if record.WhichOneof("record_type") == "history"]
    assert rows == [
        {"step": 0, "progress/batch": 0, "env/all/reward/total": 0.25},
        {"step": 1, "progress/batch": 1, "env/all/reward/total": 0.25},
        {"step": 1, "test/env/all/correct": 0.5},
        {"step": 2, "progress/batch": 2, "env/all/reward/total": 0.75},
    ]
    runs = [record.run for record in read if record.WhichOneof("record_type") == "run"]
    assert {(run.run_id, run.project) for run in runs} == {(run_id, "recipe")}
    options = {u.key: json.loads(u.value_json) for run in runs for u in run.config.update}
    assert options["limits"] == {"max_turns": 3}
    axes = [record.metric.step_metric for record in read if record.metric.glob_name == "*"]
    assert axes == ["step"] * 2


def test_without_a_key_it_does_not_ask_but_says_what_to_do(found):
    folder, output = found
    assert "wandb: could not start, and the run goes on without it. ConfigError" in output
    assert "Run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline" in output
    assert len((folder / "nobody" / "metrics.jsonl").read_bytes().splitlines()) == 3


def test_both_starts_are_the_same_run_of_trackio_with_every_row_once(found):
    folder, _ = found
    run_id = json.loads((folder / "run" / "loggers.json").read_bytes())["id"]
    with sqlite3.connect(folder / "trackio" / "recipe.db") as database:
        logged = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id")
        rows = [(name, step, json.loads(metrics)) for name, step, metrics in logged]
        (options,) = database.execute("SELECT config FROM configs").fetchone()
    database.close()
    assert rows == [
        (run_id, 0, {"progress/batch": 0.0, "env/all/reward/total": 0.25}),
        (run_id, 1, {"progress/batch": 1.0, "env/all/reward/total": 0.25}),
        (run_id, 1, {"test/env/all/correct": 0.5}),
        (run_id, 2, {"progress/batch": 2.0, "env/all/reward/total": 0.75}),
    ]
    assert json.loads(options)["limits"] == {"max_turns": 3}
