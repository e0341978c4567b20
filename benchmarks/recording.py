"""What it costs a run to write down what `python -m tinker_rl view` shows, as shares of its time.

Each part is timed where it is called, in a real run of the shipped model; a part that runs in
another thread counts with all the time that it took there.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import chz
import tiny_async

from tinker_rl import ServiceClient
from tinker_rl.rl import files, run, train
from tinker_rl.rl.journal import Journal, TrainedRecord
from tinker_rl.rl.timeline import Timeline

STEPS = 12

Row = tuple[str, str, str]
Rows = tuple[list[Row], dict[str, float]]


class Costs:
    """Seconds by what was written."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timed(self, act: Callable[..., Any], what: Callable[..., str]) -> Callable[..., Any]:
        """`act`, with its time noted under what it writes."""

        def call(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return act(*args, **options)
            finally:
                self.seconds[what(*args)] += time.perf_counter() - began

        return call

    @contextmanager
    def counting(self) -> Generator[None]:
        """Time everything that a run writes within the block."""
        places: list[tuple[Any, str, Callable[..., str]]] = [
            (Timeline, "span", lambda *_: "timeline"),
            (run, "trained_record", lambda *_: "learner's logprobs"),
            (run, "write_transcripts", lambda *_: "transcripts"),
            (files.JsonLines, "append", lambda *_: "metrics.jsonl"),
            (Journal, "append", _sort_of),
            (Journal, "sync", lambda *_: "journal"),
        ]
        with ExitStack() as stack:
            for owner, name, what in places:
                act = self.timed(getattr(owner, name), what)
                stack.enter_context(mock.patch.object(owner, name, act))
            yield


def _sort_of(_: Journal, record: object) -> str:
    return "learner's logprobs" if isinstance(record, TrainedRecord) else "journal"


def measure_recording(steps: int = STEPS) -> Rows:
    """Shares of the time of the steps; the journal, which a restart needs, is counted apart."""
    costs = Costs()
    with tempfile.TemporaryDirectory() as folder, ServiceClient() as service:
        config = chz.replace(
            tiny_async.config(2, 0, folder, steps), eval_every=0, num_groups_to_log=4
        )
        with costs.counting():
            train(config, service)
        rows = files.JsonLines(Path(folder) / "metrics.jsonl").read()
    total = sum(row["time/total"] for row in rows)
    tokens = sum(row["sampling/tokens"] for row in rows)
    shares = {what: seconds / total for what, seconds in costs.seconds.items()}
    needed = shares.pop("journal")
    how = f"of {total / len(rows):.2f} s a step, {tokens / len(rows):.0f} tokens"
    table = [(what, f"{share:.2%}", how) for what, share in sorted(shares.items())]
    table.append(("all of it", f"{sum(shares.values()):.2%}", how))
    table.append(("journal: groups, commits, fsync", f"{needed:.2%}", "for restarts"))
    return table, {"record_share": sum(shares.values()), "journal_share": needed}


if __name__ == "__main__":
    print(measure_recording())
