"""The viewer: how fast a page opens, how large it is, and what it costs a run to be looked at.

    python benchmarks/view.py [--parts opening,recording,checking] [--rounds 5]

Pages are of made runs, in a real journal; they are opened in a headless Chromium with nothing
cached, and an empty page of the same scripts in turns with them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable

os.environ.setdefault("TINKER_RL_HOME", tempfile.mkdtemp(prefix="tinker_rl_bench_"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from env_checks import measure_check_env
from opening import measure_opening
from recording import measure_recording
from report import report

Row = tuple[str, str, str]
Rows = tuple[list[Row], dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="opening,recording,checking")
    parser.add_argument("--rounds", type=int, default=5, help="times that each page is opened")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Rows]] = {
        "opening": lambda: measure_opening(options.rounds),
        "recording": measure_recording,
        "checking": measure_check_env,
    }
    rows: list[Row] = []
    figures: dict[str, float] = {}
    for part in options.parts.split(","):
        found, numbers = parts[part]()
        rows += found
        figures |= numbers
    report("The viewer", rows, figures)


if __name__ == "__main__":
    main()
