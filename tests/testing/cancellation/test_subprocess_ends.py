"""What a lost process takes along is told with it, and nothing else is; causes come first."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile

import anyio
import pytest

from tinker_rl.envs import Env, EnvGroupBuilder, StepResult
from tinker_rl.testing.cancellation import CancellationError, cancel_everywhere
from tinker_rl.types import ModelInput

kept = []
"""Processes that were lost, so that their ends stay open."""
pids = []
"""Numbers of those that nothing keeps."""
pipes = []


@pytest.fixture(autouse=True)
def _end_what_leaked():
    yield
    for process in kept:
        with process:
            process.kill()
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    for end in pipes:
        os.close(end)
    for lost in (kept, pids, pipes):
        lost.clear()


def started(**streams):
    kept.append(subprocess.Popen(["sleep", "60"], **streams))
    return kept[-1]


class OneTurn(Env):
    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        await self.work()
        return StepResult(1.0, True, ModelInput.empty(), [0])

    async def work(self):
        await anyio.sleep(1)


class Piped(OneTurn):
    """Loses a process with pipes to it, and a pipe that has nothing to do with it."""

    async def work(self):
        process = started(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        other = os.pipe()
        pipes.extend(other)
        await anyio.sleep(1)
        for end in other:
            os.close(end)
            pipes.remove(end)
        with process:
            process.kill()


class Killed(OneTurn):
    """Kills its process in any case, after which the system shows no pipes of it."""

    async def work(self):
        process = started(stdout=subprocess.PIPE)
        try:
            await anyio.sleep(1)
        except BaseException:
            process.kill()
            raise
        with process:
            process.kill()


class Forgotten(OneTurn):
    """Drops the object of its process, so that Python closes the pipes at some time."""

    async def work(self):
        process = await anyio.open_process(["sleep", "60"])
        pids.append(process.pid)
        await anyio.sleep(1)
        process.kill()
        await process.aclose()


class Group(EnvGroupBuilder):
    env_class = OneTurn

    async def make_envs(self):
        return [self.env_class()]


class PipedGroup(Group):
    env_class = Piped


class KilledGroup(Group):
    env_class = Killed


class ForgottenGroup(Group):
    env_class = Forgotten


class FailingCleanupGroup(Group):
    """Does not come to closing its file."""

    async def make_envs(self):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        return await super().make_envs()

    async def cleanup(self):
        raise OSError("no place is left")


def found(builder, **options):
    with pytest.raises(CancellationError) as raised:
        cancel_everywhere(builder, settle_seconds=0.02, **options)
    return [(finding.kind, finding.text) for finding in raised.value.report.findings]


def test_the_pipes_of_a_process_are_told_with_it_and_no_other(backend):
    assert found(PipedGroup, backend=backend) == [
        ("process", "'sleep' still runs (open with it: 2 pipes)"),
        ("file", "pipe is still open"),
    ]


def test_the_pipes_of_a_process_that_has_ended_are_told_with_it(backend):
    text = "'sleep' ended, and nobody waited for it (open with it: pipe)"
    assert found(KilledGroup, backend=backend) == [("process", text)]


def test_a_process_that_is_thrown_away_is_one_finding():
    ((kind, text),) = found(ForgottenGroup)
    assert kind == "process"
    assert re.fullmatch(r"'sleep' still runs \(open with it: (pidfd, )?3 pipes\)", text)


def test_causes_are_told_before_what_follows_of_them(backend):
    kinds = [kind for kind, _ in found(FailingCleanupGroup, backend=backend)]
    assert kinds == ["cleanup", "file"]
