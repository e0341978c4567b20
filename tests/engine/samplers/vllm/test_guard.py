"""The guard needs no vLLM: any command will do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import tinker_rl

GUARD = Path(tinker_rl.__file__).parent / "engine/samplers/vllm/guard.py"

# A command with a child, both of which ignore what polite killers send.
COMMAND = """
import signal, subprocess, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if len(sys.argv) < 2:
    child = subprocess.Popen([sys.executable, __file__, "child"])
    print(child.pid, flush=True)
time.sleep(600)
"""

# A command that makes a semaphore, and writes down its name.
SEMAPHORE = """
import os, sys, time
from _multiprocessing import SemLock
name = f"mp-tinker_rl-{os.getpid()}"
semaphore = SemLock(1, 1, 1, f"/{name}", False)
print(f"/dev/shm/sem.{name}", flush=True)
time.sleep(600)
"""

# The owner of a guard, as another program.
OWNER = """
import os, subprocess, sys, time
guard, command, owned = sys.argv[1:]
read, write = os.pipe()
null = os.open(os.devnull, os.O_RDWR)
environment = {**os.environ, "TINKER_RL_PASS_FDS": str(null), "TINKER_RL_OWNED": owned}
process = subprocess.Popen(
    [sys.executable, guard, str(read), sys.executable, command],
    pass_fds=(read, null), start_new_session=True, env=environment)
os.close(read)
print(process.pid, flush=True)
line = sys.stdin.readline()
if line == "look\\n":
    os.write(write, b"n")
    line = sys.stdin.readline()
if line == "kill\\n":
    os.write(write, b"k")
    sys.stdin.readline()
elif line == "leave\\n":
    os.write(write, b"e")
"""


def wait_until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    assert holds()


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_owner(tmp_path, command):
    """The owner of a guarded command, and a folder that it owns."""
    script, owner, owned = tmp_path / "command.py", tmp_path / "owner.py", tmp_path / "owned"
    script.write_text(command)
    owner.write_text(OWNER)
    (owned / "deep").mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, owner, GUARD, script, owned],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, owned


@pytest.fixture
def guarded(tmp_path):
    """An owner, the processes of its guard, and a folder that it owns."""
    process, owned = start_owner(tmp_path, COMMAND)
    pids = sorted(int(process.stdout.readline()) for _ in range(2))
    guard = psutil.Process(pids[0])
    wait_until(lambda: len(guard.children(recursive=True)) == 2)
    family = [guard.pid, *(child.pid for child in guard.children(recursive=True))]
    yield process, family, owned
    process.kill()
    process.communicate()


def test_nothing_outlives_an_owner_that_is_killed(guarded):
    process, family, owned = guarded
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(alive, family)))
    assert not owned.exists()


def test_a_semaphore_does_not_outlive_the_process_that_made_it(tmp_path):
    process, _ = start_owner(tmp_path, SEMAPHORE)
    said = [process.stdout.readline().strip() for _ in range(2)]
    (semaphore,) = (Path(line) for line in said if line.startswith("/"))
    assert semaphore.exists()
    process.kill()
    process.communicate()
    wait_until(lambda: not semaphore.exists())


def test_what_is_stopped_does_not_outlive_the_owner_either(guarded):
    process, family, owned = guarded
    for pid in family[1:]:
        os.kill(pid, signal.SIGSTOP)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(alive, family)))
    assert not owned.exists()


def test_when_the_command_goes_its_children_go(guarded):
    _, family, owned = guarded
    os.kill(family[1], signal.SIGKILL)
    wait_until(lambda: not any(map(alive, family[1:])))
    assert owned.exists()


def test_an_owner_that_ends_well_keeps_its_folder(guarded):
    process, family, owned = guarded
    process.communicate("leave\n", timeout=60)
    wait_until(lambda: not any(map(alive, family)))
    assert owned.exists()


def test_told_to_look_it_kills_nothing_yet(guarded):
    process, family, owned = guarded
    process.stdin.write("look\n")
    process.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert all(map(alive, family))
    process.communicate("leave\n", timeout=60)
    wait_until(lambda: not any(map(alive, family)))
    assert owned.exists()


def test_told_to_kill_it_kills_the_command(guarded):
    process, family, _ = guarded
    process.stdin.write("kill\n")
    process.stdin.flush()
    wait_until(lambda: not any(map(alive, family[1:])))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_are_meant_for_the_owner_do_not_end_it(guarded, number):
    _, family, _ = guarded
    os.kill(family[0], number)
    time.sleep(0.2)
    assert all(map(alive, family))
