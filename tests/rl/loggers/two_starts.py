"""Starts of runs with the real wandb and trackio: `python two_starts.py FOLDER`."""

import os
import sys
from pathlib import Path

import anyio
import wandb

from tinker_rl.rl.files import JsonLines
from tinker_rl.rl.loggers import RowLog, make_loggers

STARTS = (
    [
        {"step": 0, "progress/batch": 0, "env/all/reward/total": 0.25},
        {"step": 1, "progress/batch": 1, "env/all/reward/total": 0.25},
        {"step": 1, "test/env/all/correct": 0.5},
    ],
    [{"step": 2, "progress/batch": 2, "env/all/reward/total": 0.75}],
)


def start(folder, names, rows):
    file = JsonLines(folder / "metrics.jsonl")
    log = RowLog(file, make_loggers(names), "recipe", {"limits": {"max_turns": 3}}, print)
    for row in rows:
        log.append(row)
    anyio.run(log.aclose)


nobody, run = (Path(sys.argv[1]) / name for name in ("nobody", "run"))
nobody.mkdir()
run.mkdir()
start(nobody, ["wandb"], STARTS[0])  # nobody is logged in
wandb.teardown()
os.environ["WANDB_MODE"] = "offline"
for rows in STARTS:
    start(run, ["wandb", "trackio"], rows)
