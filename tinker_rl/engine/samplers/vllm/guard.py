"""Runs a command as a process group, and sees that none of it outlives its owner.

    python guard.py LIFE_FD COMMAND...

The owner holds the other end of the pipe LIFE_FD. When it writes there, when that closes, however
the owner ended, or when the command ends, whatever is left of the group is killed. But an `n`,
written before the command is asked to end by itself, kills nothing. An owner that is well takes
leave with a byte `e`; of another one the files named by TINKER_RL_OWNED are removed too, and the
group's segments of shared memory in any case: its processes are killed before they can. This needs
a process of its own: an owner that is killed can do nothing, and a command that is stopped notices
nothing. Only the standard library is imported, so that it is small and there at once.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

_SHARED_MEMORY = "/dev/shm"
_SEGMENTS = ("psm_", "sem.mp-")
"""How Python names the shared memory and the semaphores of its processes."""

_MOST_PAUSE_SECONDS = 5.0
"""Between two looks at what is mapped, which take 3 ms: what is made and lost in between stays."""

_NOTE_SECONDS = 2.0
"""A process that hangs in the kernel may not say what it has mapped. It is killed all the same."""


def main() -> None:
    """Run the command, and end with it or with the owner."""
    life = int(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the owner decides when it is over
    owned = os.environ.pop("TINKER_RL_OWNED").split(os.pathsep)
    passed = tuple(map(int, os.environ.pop("TINKER_RL_PASS_FDS").split(",")))
    command = subprocess.Popen(sys.argv[2:], process_group=0, pass_fds=passed, preexec_fn=_signals)
    for fd in passed:
        os.close(fd)  # the owner must see the end of the command

    ended = threading.Event()
    segments: set[str] = set()
    threading.Thread(target=_keep_noting, args=(command.pid, segments), daemon=True).start()

    def note() -> None:
        look = threading.Thread(target=_note_segments, args=(command.pid, segments), daemon=True)
        look.start()
        look.join(_NOTE_SECONDS)

    def kill() -> None:
        note()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(command.pid, signal.SIGKILL)

    def watch() -> None:
        last = b""
        while heard := os.read(life, 1024):
            last = heard
            if heard.strip(b"n"):
                kill()
            else:
                note()
        kill()
        for path in () if last.endswith(b"e") else owned:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.remove(path)
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    code = command.wait()
    kill()
    for path in tuple(segments):
        with contextlib.suppress(OSError):
            os.remove(path)
    ended.wait()
    os._exit(code if code >= 0 else 128 - code)


def _signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _keep_noting(group: int, found: set[str]) -> None:
    """Note segments for ever: a process that dies by itself takes what it had mapped with it."""
    pause = 1.0
    while True:
        time.sleep(pause)
        pause = min(_MOST_PAUSE_SECONDS, 1.2 * pause)  # most are made at the start
        _note_segments(group, found)


def _note_segments(group: int, found: set[str]) -> None:
    """Note which segments of shared memory the processes of a group have mapped."""
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if os.getpgid(int(entry.name)) == group:
                found.update(_mapped_segments(f"{entry.path}/maps"))


def _mapped_segments(maps: str) -> list[str]:
    """By inode: who makes a semaphore has it mapped under a passing name."""
    with open(maps) as lines:
        inodes = {int(line.split()[4]) for line in lines if f"{_SHARED_MEMORY}/" in line}
    segments = os.scandir(_SHARED_MEMORY) if inodes else ()
    return [s.path for s in segments if s.name.startswith(_SEGMENTS) and s.inode() in inodes]


if __name__ == "__main__":
    main()
