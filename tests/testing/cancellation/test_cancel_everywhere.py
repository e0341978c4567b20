"""Each leaky environment is found, with its line and a way to replay it; good ones pass."""

import contextlib
import importlib
import re
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

import anyio
import pytest

from tinker_rl.completers import ScriptedTokenCompleter
from tinker_rl.envs import (
    ArithmeticDatasetBuilder,
    Env,
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    ProblemGroupBuilder,
    StepResult,
    load_renderer,
)
from tinker_rl.errors import RequestError
from tinker_rl.rl import RolloutLimits
from tinker_rl.testing.cancellation.cancel_everywhere import (
    CancellationError,
    cancel_everywhere,
    evenly,
)
from tinker_rl.testing.clock import run_in_virtual_time
from tinker_rl.testing.completers.faults import DelayedCompleter
from tinker_rl.types import ModelInput

sys.path.insert(0, str(Path(__file__).parent))
base = importlib.import_module("leaky.base")
resources = importlib.import_module("leaky.resources")
cancellations = importlib.import_module("leaky.cancellations")
sys.path.pop(0)

LEAKY = {
    # builder: (kind, what the finding says, the points at which it comes)
    resources.FileGroup: ("file", "is still open", [0, 1, 2, 3, 4]),
    resources.SocketGroup: ("socket", "socket is still open", [0, 1, 2, 3, 4]),
    resources.ThrownAwayGroup: ("file", "is still open", [2, 4]),
    resources.ThreadGroup: ("thread", "'leaky watcher' still runs", [2, 4]),
    resources.ProcessGroup: ("process", "'python3?[0-9.]*' still runs", [2, 4]),
    resources.UnawaitedGroup: ("process", "ended, and nobody waited for it", [2, 4]),
    resources.TaskGroup: ("task", r"TaskEnv\.tick\w* still runs \(.*resources.py:", [2, 3, 5, 6]),
    resources.LibraryTaskGroup: (
        "task",
        r"^(asyncio\.locks|trio\._sync)\.Event\.wait still runs \(started at .*resources.py:\d+\)$",
        [2, 3, 5, 6],
    ),
    resources.GeneratorGroup: ("async generator", r"GeneratorEnv\.ticks waits at .*:\d", [2, 5]),
    resources.LockGroup: ("lock", r"builder\.lock is still held", [2, 3, 5, 6]),
    resources.SlotGroup: ("lock", r"resources\.SLOTS is still held", [2, 4]),
    resources.PoolGroup: ("borrowed", "1 more are borrowed than before", [2, 4]),
    cancellations.SwallowsGroup: (
        "swallowed",
        r"SwallowsEnv\.step \(.*cancellations.py:\d+\) caught the cancellation and went on",
        [2],
    ),
    cancellations.ReplacesGroup: (
        "swallowed",
        "raised RuntimeError in place of the cancellation: the tool failed",
        [2, 4],
    ),
    cancellations.RetriesForEverGroup: ("swallowed", "again and again, and never ends", [2, 4]),
    cancellations.RetriesInATaskGroup: ("swallowed", r"RetriesInATaskEnv\.retry", [2, 3, 5, 6]),
    cancellations.WaitsShieldedGroup: ("never ends", r"WaitsShieldedEnv\.step .* still", [2, 5]),
    cancellations.ClosesUnshieldedGroup: ("file", "is still open", [2, 4]),
    cancellations.CleansUpTwiceGroup: ("cleanup", "cleanup was called 2 times", [2, 4, 5]),
    cancellations.NeedsAllGroup: ("cleanup", "cleanup raised AttributeError: .*'file'", [0]),
}

GOOD = [
    base.Group,
    resources.ClosingFileGroup,
    resources.WithLockGroup,
    cancellations.CatchesExceptionsGroup,
    cancellations.ClosesShieldedGroup,
    cancellations.FirstInCleanupGroup,
]

quickly = partial(cancel_everywhere, settle_seconds=0.02)  # what is leaked stays
patiently = partial(cancel_everywhere, settle_seconds=10)  # what ends may take its time


@pytest.fixture(autouse=True)
def _end_what_leaked():
    yield
    resources.ThreadEnv.stop.set()
    for process in [*resources.ProcessEnv.processes, *resources.UnawaitedEnv.processes]:
        process.kill()
        process.wait()
    resources.ProcessEnv.processes.clear()
    resources.UnawaitedEnv.processes.clear()


def found(builder, **options):
    with pytest.raises(CancellationError) as raised:
        quickly(builder, **options)
    return raised.value


def in_use():
    return resources.Pool.in_use


@pytest.mark.parametrize("builder", LEAKY, ids=lambda builder: builder.__name__)
def test_what_is_lost_is_found_where_it_is_lost(builder, backend):
    kind, text, points = LEAKY[builder]
    error = found(builder, backend=backend, borrowed=in_use)
    findings = {finding.kind: finding for finding in error.report.findings}
    assert len(findings) == len(error.report.findings), "each is told once"
    assert set(findings) == {kind}
    assert [point.number for point in findings[kind].points] == points
    assert re.search(text, findings[kind].text), findings[kind].text
    place = findings[kind].points[0]
    assert place.source, "the line that waited is shown"
    assert f"cancelled at {place}\n        {place.source}\n" in str(error)
    given = "" if backend == "trio" else ", backend='asyncio'"
    given += ", borrowed=in_use, settle_seconds=0.02"
    assert f"replay: cancel_everywhere({builder.__name__}, at={points[0]}{given})\n" in f"{error}\n"


class Asks(MessageEnv):
    async def initial_observation(self):
        return [{"role": "user", "content": "Go on."}]

    async def step(self, message):
        with contextlib.suppress(BaseException):
            await anyio.sleep(1)
        return MessageStepResult(1.0, True, [])


def test_what_swallows_a_cancellation_is_told_once_and_not_of_what_is_around_it(backend):
    renderer = load_renderer("tiny", "qwen3_instruct")
    make = partial(ProblemGroupBuilder, lambda: EnvFromMessageEnv(renderer, Asks()), 1)
    (finding,) = found(make, backend=backend).report.findings
    assert finding.text.startswith("Asks.step (")


@pytest.mark.parametrize("builder", [resources.LockGroup, cancellations.SwallowsGroup])
def test_a_replay_finds_the_same_at_that_point_alone(builder, backend):
    whole = found(builder, backend=backend).report
    point = whole.findings[0].points[0]
    again = found(builder, backend=backend, at=point.number).report
    assert again.tried == (point.number,)
    assert [(f.kind, f.text, f.points) for f in again.findings] == [
        (whole.findings[0].kind, whole.findings[0].text, (point,))
    ]
    other = next(p for p in whole.points if p not in whole.findings[0].points)
    assert patiently(builder, backend=backend, at=other.number).tried == (other.number,)


@pytest.mark.parametrize("builder", GOOD, ids=lambda builder: builder.__name__)
def test_good_ones_pass(builder, backend):
    report = patiently(builder, backend=backend, cut_cleanup=True)
    assert report.tried == tuple(range(len(report.points)))
    assert report.notes == ()
    assert len(report.points) >= 5


def test_a_clean_up_cut_short_is_looked_at_if_asked(backend):
    builder = cancellations.LastInCleanupGroup
    assert patiently(builder, backend=backend).findings == ()
    error = found(builder, backend=backend, cut_cleanup=True)
    (finding,) = (f for f in error.report.findings if f.kind == "file")
    assert finding.text.endswith("is still open, after a clean-up cut short")
    assert [point.method for point in finding.points] == ["LastInCleanupGroup.cleanup"]
    assert ", cut_cleanup=True" in str(error)


def test_what_goes_wrong_without_any_cancellation_is_said_first(backend):
    slow = found(cancellations.SlowCleanupGroup, backend=backend)
    assert "cleanup took longer than 30 seconds (cleanup_seconds)" in str(slow)
    assert slow.report.tried == ()
    failing = found(cancellations.FailsGroup, backend=backend)
    assert "at no cancellation at all" in str(failing)
    assert "[failed] step failed without any cancellation (" in str(failing)
    assert "KeyError: 'nothing'" in str(failing)
    assert "    replay: cancel_everywhere(FailsGroup, " in str(failing)


class Together(base.Group):
    """Several members; the second one loses a lock."""

    size = 3

    async def make_envs(self):
        self.lock = anyio.Lock()
        good, bad = resources.WithLockEnv, resources.LockEnv
        self.envs = [good(), bad(), good()]
        for env in self.envs:
            env.group = self
        return self.envs


def test_points_are_counted_for_each_member(backend):
    error = found(Together, backend=backend)
    members = {point.member for point in error.report.points}
    assert members == {0, 1, 2}
    (finding,) = error.report.findings
    assert finding.kind == "lock"
    assert len({(point.member, point.turn) for point in error.report.points}) == len(
        error.report.points
    )
    assert "of member" in str(error)
    assert error.report.notes == ()


class ManyTurns(base.TwoTurns):
    """Waits a thousand times."""

    async def work(self):
        for _ in range(500):
            await anyio.lowlevel.checkpoint()


class ManyGroup(base.Group):
    env_class = ManyTurns


def test_thousands_of_points_are_tried_evenly_spread():
    report = patiently(ManyGroup, max_points=5)
    size = len(report.points)
    assert size > 1000
    assert report.tried == tuple(evenly(size, 5))
    assert report.tried[0] == 0
    assert report.tried[-1] == size - 1
    assert report.notes == (f"5 points evenly spread over {size} (max_points)",)
    assert f"cancelled at 5 of {size} await points" in str(report)


@pytest.mark.parametrize(("size", "at_most"), [(0, 3), (3, 3), (10, 1), (10, 4), (7, 6), (9, 0)])
def test_evenly_gives_what_it_says(size, at_most):
    numbers = evenly(size, at_most)
    assert len(numbers) == len(set(numbers)) == min(size, at_most)
    assert numbers == sorted(numbers)
    assert all(0 <= number < size for number in numbers)


class SlowInAThread(base.TwoTurns):
    """Waits in threads, and for longer than any limit in real time."""

    async def work(self):
        await anyio.to_thread.run_sync(threading.Event().wait, 0.01)
        await anyio.sleep(10 * 3600)


class SlowGroup(base.Group):
    env_class = SlowInAThread


def test_hours_pass_at_once_and_threads_have_their_time(backend):
    limits = RolloutLimits(max_step_seconds=24 * 3600)
    assert len(patiently(SlowGroup, backend=backend, limits=limits).points) >= 8


class ThreadEnv(base.TwoTurns):
    runs_in = "thread"

    async def open(self):
        time.sleep(0.01)  # noqa: ASYNC251

    work = close = open


def test_calls_in_threads_are_points_too(backend):
    builder = ProblemGroupBuilder(ThreadEnv, num_envs=1)
    limits = RolloutLimits(max_step_seconds=1e-3)  # in virtual time: threads are waited for
    report = patiently(builder, backend=backend, limits=limits)
    assert "ThreadEnv.step, elsewhere" in {point.method for point in report.points}


class ProcessEnv(base.TwoTurns):
    runs_in = "process"


def test_environments_in_processes_are_refused(backend):
    builder = ProblemGroupBuilder(ProcessEnv, num_envs=1)
    with pytest.raises(RequestError, match=r"got ProcessEnv\.runs_in = 'process'"):
        cancel_everywhere(builder, backend=backend)


class NeverWaits(Env):
    async def initial_observation(self):
        return base.ModelInput.from_ints([1]), [0]

    async def step(self, action):
        return base.StepResult(1.0, True, base.ModelInput.empty(), [0])


def test_the_policy_acts_at_points_of_its_own(backend):
    def late():
        return DelayedCompleter(ScriptedTokenCompleter([[1, 0]]), 5)

    builder = ProblemGroupBuilder(NeverWaits, num_envs=1)
    report = patiently(builder, backend=backend, make_actor=late)
    assert {point.method for point in report.points} == {"the policy"}
    assert len(report.points) == 2  # the delay, and the script
    with pytest.raises(RequestError, match=r"cancel_everywhere\.at: expected 0 to 1.*; got 2"):
        patiently(builder, backend=backend, make_actor=late, at=2)


def test_the_projects_own_environments_pass(backend):
    settings = ArithmeticDatasetBuilder(
        batch_size=1,
        group_size=3,
        model_name_for_tokenizer="tiny",
        renderer_name="qwen3_instruct",
        n_test=0,
    )
    train, _ = run_in_virtual_time(settings)
    report = patiently(train.get_batch(0)[0], backend=backend)
    assert len(report.tried) == 3


class AsksTheWorld(Env):
    """Asks a server that takes its time, and a subprocess, and ends another one."""

    port = 0

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(b"x")
            await stream.receive()
        with anyio.CancelScope(shield=True):  # cancelled while it starts one, asyncio loses pipes
            process = await anyio.open_process(["sleep", "30"], stdin=None)
        async with process:
            process.terminate()
            await process.wait()
        return StepResult(1.0, True, ModelInput.empty(), [0])


def test_what_waits_for_the_world_passes(backend, caplog):
    """Neither a limit of the episode nor the patience of the check is leapt to."""

    def answer(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), connection:
                    connection.recv(1)
                    time.sleep(0.02)
                    connection.send(b"y")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        AsksTheWorld.port = listener.getsockname()[1]
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        report = patiently(ProblemGroupBuilder(AsksTheWorld, num_envs=1), backend=backend)
        listener.shutdown(socket.SHUT_RDWR)
    assert len(report.tried) == len(report.points) >= 5
    assert "borrowed=" in str(report)
    assert caplog.records == []


class Slotted(EnvGroupBuilder):
    __slots__ = ()

    async def make_envs(self):
        return [NeverWaits()]


def test_the_builder_is_as_it_was_and_one_that_cannot_be_watched_is_refused():
    builder = ProblemGroupBuilder(NeverWaits, num_envs=1)
    before = dict(vars(builder))
    patiently(builder)
    assert vars(builder) == before
    with contextlib.suppress(RequestError):
        patiently(Slotted())
