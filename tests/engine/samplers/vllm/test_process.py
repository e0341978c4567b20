"""What is seen of the processes of an engine. Any will do."""

import signal
import subprocess
import sys

import psutil
import pytest

from tinker_rl.engine.samplers.vllm.process import _vitals

# A process whose children do its work, one after the other, while it waits for them.
COMPILER = """
import subprocess, sys, time
work = "import time\\nwhile time.process_time() < 0.6: pass"
subprocess.run([sys.executable, "-IS", "-c", work])
print(time.process_time(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start():
    """Starts Python processes that wait until they are told to end."""
    started = []

    def start(program):
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_that_waits_for_its_compilers_is_busy(start):
    process, own = start(COMPILER)
    assert _vitals([process.pid]).cpu_seconds >= 0.5  # the system counts in hundredths
    assert float(own) < 0.5


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_process_of_an_engine_that_is_stopped_or_dead_is_seen(start, place):
    processes = [start("print(flush=True); import sys; sys.stdin.read()")[0] for _ in range(3)]
    pids = [process.pid for process in processes]
    vitals = _vitals(pids)
    assert (vitals.stopped, vitals.dead) == (False, False)
    processes[place].send_signal(signal.SIGSTOP)
    while psutil.Process(pids[place]).status() != psutil.STATUS_STOPPED:
        pass
    vitals = _vitals(pids)
    assert (vitals.stopped, vitals.dead) == (True, False)
    processes[place].kill()
    processes[place].wait()
    assert _vitals(pids).dead
