"""Kills a real run with SIGKILL at random moments, and compares it with an unbroken one.

    python benchmarks/kills.py [--kills 20] [--steps 12] [--seed 0]

Each schedule runs in a process of its own, `python -m tinker_rl.recipes.rl_basic`, that is killed
without warning and started with the same command until it is done. With `lag=fixed` the weights
have to be those of the unbroken run, bit for bit, after every step; with every schedule each group
trains once, no finished group is sampled again, and no step is committed twice.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from report import report

from tinker_rl.rl.journal import JOURNAL_FILE, CommitRecord, Journal, encode
from tinker_rl.rl.journal import without_times as timeless

SCHEDULES = {
    "fixed": ["max_steps_off_policy=2", "lag=fixed", "num_minibatches=2"],
    "newest": ["max_steps_off_policy=2", "num_substeps=2"],
    "mask": ["max_steps_off_policy=2", "straggler=mask"],
    "on_policy": ["lag=fixed"],
}
EARLY = 0.2
"""Share of the kills that come while the run loads, at most `EARLY_SECONDS` after its start."""
EARLY_SECONDS = 6.0
LATE_SECONDS = 4.0
"""The others come so long at most after the run has written into its journal: while it replays,
samples, trains, publishes, evaluates or saves."""
PATIENCE_SECONDS = 600.0


@dataclass
class Outcome:
    """What became of a run that was killed again and again."""

    kills: int = 0
    starts: int = 0
    torn: int = 0
    """Starts that found a torn last record."""
    killed_at: list[int] = field(default_factory=list)
    """Steps committed when it was killed."""
    commits: tuple[CommitRecord, ...] = ()
    groups: dict[int, bytes] = field(default_factory=dict)
    """Each group's record, without times."""


def command(schedule: list[str], folder: Path, steps: int) -> list[str]:
    """The run; the same words at every start."""
    options = {
        "model_name": "tiny",
        "sampler": "embedded",
        "batch_size": 8,
        "group_size": 4,
        "max_steps": steps,
        "n_test": 16,
        "eval_every": 4,
        "save_every": 3,
        "log_path": folder / "run",
    }
    words = [f"{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "tinker_rl.recipes.rl_basic", *words, *schedule]


def start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start the run; what it says goes to a file."""
    environment = os.environ | {"TINKER_RL_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    said = (folder / "said.txt").open("ab")
    try:
        return subprocess.Popen(words, stdout=said, stderr=said, env=environment)
    finally:
        said.close()


def num_committed(folder: Path) -> int:
    """Steps that the journal says are done; what is being written is not looked at."""
    path = folder / "run" / JOURNAL_FILE
    if not path.exists():
        return 0
    with Journal.read(path) as journal:
        return len(journal.commits)


def kill_at_random(process: subprocess.Popen[bytes], journal: Path, rng: random.Random) -> bool:
    """Kill a start while it loads or while it works; False if it ended before."""
    if rng.random() < EARLY:
        seconds = rng.uniform(0, EARLY_SECONDS)
    else:
        size = size_of(journal)
        while size_of(journal) == size and process.poll() is None:
            time.sleep(0.02)
        seconds = rng.uniform(0, LATE_SECONDS)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def size_of(path: Path) -> int:
    """In bytes; 0 where there is no such file."""
    return path.stat().st_size if path.exists() else 0


def run_through(schedule: list[str], folder: Path, steps: int, kills: int, seed: int) -> Outcome:
    """Run to the end, killed `kills` times on the way, as long as there is something to kill."""
    folder.mkdir(parents=True)
    rng, outcome = random.Random(seed), Outcome()
    words = command(schedule, folder, steps)
    while True:
        process = start(words, folder)
        outcome.starts += 1
        is_last = outcome.kills == kills
        if is_last:
            process.wait(PATIENCE_SECONDS)
        elif kill_at_random(process, folder / "run" / JOURNAL_FILE, rng):
            outcome.kills += 1
            outcome.killed_at.append(num_committed(folder))
            continue
        if process.returncode != 0:
            raise SystemExit(f"a start failed:\n{(folder / 'said.txt').read_text()[-4000:]}")
        break
    outcome.torn = (folder / "said.txt").read_text().count("was torn by a kill")
    with Journal.read(folder / "run" / JOURNAL_FILE) as journal:
        outcome.commits = journal.commits
        for group in sorted(journal.finished_groups()):
            outcome.groups[group] = encode(timeless(journal.read_group(group)))
    return outcome


def faults(outcome: Outcome, unbroken: Outcome, steps: int, *, is_fixed: bool) -> list[str]:
    """What is not as it has to be."""
    found: list[str] = []
    trained = Counter(group for commit in outcome.commits for group in commit.groups)
    if trained != Counter(range(steps * 8)):
        found.append("a group trained twice, or never")
    if [commit.step for commit in outcome.commits] != list(range(steps)):
        found.append("a step is missing, or committed twice")
    if is_fixed:
        ours, theirs = ([c.weight_hash for c in o.commits] for o in (outcome, unbroken))
        if ours != theirs:
            step = next(
                i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len(set(pair)) > 1
            )
            found.append(f"other weights from step {step} on")
        if outcome.groups != unbroken.groups:
            found.append("other groups in the journal")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of all schedules together")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--schedules", default=",".join(SCHEDULES))
    options = parser.parse_args()
    names = options.schedules.split(",")
    rows: list[tuple[str, str, str]] = []
    figures: dict[str, float] = {"kills": 0, "faults": 0, "torn": 0}
    with tempfile.TemporaryDirectory(prefix="tinker_rl_kills_") as root:
        for place, name in enumerate(names):
            schedule, folder = SCHEDULES[name], Path(root) / name
            share = len(range(place, options.kills, len(names)))
            began = time.monotonic()
            is_fixed = "lag=fixed" in schedule
            unbroken = Outcome()
            if is_fixed:
                unbroken = run_through(schedule, folder / "unbroken", options.steps, 0, 0)
            seed = options.seed + place
            killed = run_through(schedule, folder / "killed", options.steps, share, seed)
            found = faults(killed, unbroken, options.steps, is_fixed=is_fixed)
            at = ", ".join(map(str, killed.killed_at))
            rows.append(
                (
                    f"{name}: {killed.kills} kills",
                    "; ".join(found) or ("equal weights" if is_fixed else "each group once"),
                    f"killed after steps {at}; {killed.torn} torn records; "
                    f"{time.monotonic() - began:.0f} s",
                )
            )
            figures["kills"] += killed.kills
            figures["torn"] += killed.torn
            figures["faults"] += len(found)
            figures[f"faults_{name}"] = len(found)
    report("Runs killed with SIGKILL", rows, figures)
    sys.exit(1 if figures["faults"] else 0)


if __name__ == "__main__":
    main()
