"""A real run, killed with SIGKILL at random moments, against one that nothing disturbed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_weights_of_an_unbroken_one():
    """`make bench` does so with every schedule, and more often."""
    options = ["--kills", "2", "--steps", "6", "--schedules", "fixed"]
    command = [sys.executable, str(BENCHMARK), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] >= 1  # a start may be done before its kill
    assert figures["faults_fixed"] == 0
