"""The gate on random schedules: as many as may, oldest first, and no slot ever lost."""

from itertools import pairwise

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tinker_rl.errors import RequestError, SamplerError
from tinker_rl.policies import AdaptiveLimit, FixedLimit, SamplerGate

settings.register_profile("gate", parent=settings.default, deadline=None)
settings.load_profile("gate")

BACKENDS = ["trio", "asyncio"]


def run(function, backend):
    """On trio in virtual seconds; on asyncio a second is a turn of its loop."""
    options = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    return anyio.run(function, backend=backend, backend_options=options)


async def pause(seconds, backend):
    if backend == "trio":
        await anyio.sleep(seconds)
    else:
        for _ in range(seconds):
            await anyio.lowlevel.checkpoint()


priorities = st.tuples(st.integers(0, 3), st.integers(0, 3))
requests = st.fixed_dictionaries(
    {
        "arrives": st.integers(0, 8),
        "priority": priorities,
        "seconds": st.integers(0, 5),
        "cancelled_after": st.none() | st.integers(0, 12),
        "fails": st.booleans(),
    }
)


@given(
    backend=st.sampled_from(BACKENDS),
    limit=st.one_of(
        st.builds(FixedLimit, st.integers(1, 4)), st.builds(lambda: AdaptiveLimit(4, maximum=8))
    ),
    requests=st.lists(requests, max_size=25),
    interleaving=st.random_module(),
)
def test_no_slot_is_lost_or_granted_twice_however_requests_end(
    backend, limit, requests, interleaving
):
    gate = SamplerGate(limit)
    holders, most = set(), 8 if isinstance(limit, AdaptiveLimit) else limit.value
    served, cancelled = [], []

    async def hold(number, seconds, fails):
        async with gate.slot(requests[number]["priority"]) as slot:
            holders.add(number)
            assert len(holders) <= gate.num_in_flight <= most  # some were granted, and yet to run
            try:
                await pause(seconds, backend)
                if fails:
                    raise SamplerError("the sampler is gone")
                slot.num_tokens = 1
            finally:
                holders.discard(number)

    async def request(number, arrives, priority, seconds, cancelled_after, fails):
        await pause(arrives, backend)
        async with anyio.create_task_group() as tasks:

            async def cancel():
                if cancelled_after is not None:
                    await pause(cancelled_after, backend)
                    tasks.cancel_scope.cancel()

            tasks.start_soon(cancel)
            try:
                await hold(number, seconds, fails)
            except SamplerError:
                assert fails
            served.append(number)
            return
        cancelled.append(number)

    async def go():
        async with anyio.create_task_group() as tasks:
            for number, options in enumerate(requests):
                tasks.start_soon(lambda n=number, o=options: request(n, **o))
        assert gate.num_in_flight == gate.num_waiting == 0
        for _ in range(gate.limit):  # all are there again
            async with gate.slot((0,)):
                pass

    run(go, backend)
    assert set(served) | set(cancelled) == set(range(len(requests)))
    never_cancelled = {n for n, r in enumerate(requests) if r["cancelled_after"] is None}
    assert never_cancelled <= set(served)


@given(
    backend=st.sampled_from(BACKENDS),
    queue=st.lists(st.tuples(priorities, st.booleans()), max_size=30),
    num_slots=st.integers(1, 3),
)
def test_slots_go_to_the_lowest_priority_first_and_to_equals_as_they_came(
    backend, queue, num_slots
):
    gate = SamplerGate(FixedLimit(num_slots))
    granted = []

    async def wait(number, priority):
        async with gate.slot(priority):
            granted.append(number)

    async def go():
        async with anyio.create_task_group() as tasks:
            scopes = []
            async with anyio.create_task_group() as holders:
                for _ in range(num_slots):
                    holders.start_soon(hold, gate, anyio.Event())
                await anyio.wait_all_tasks_blocked()
                for number, (priority, _) in enumerate(queue):
                    scopes.append(scope := anyio.CancelScope())
                    tasks.start_soon(in_scope, scope, wait, number, priority)
                    await anyio.wait_all_tasks_blocked()
                for scope, (_, gives_up) in zip(scopes, queue, strict=True):
                    if gives_up:
                        scope.cancel()
                await anyio.wait_all_tasks_blocked()
                assert gate.num_waiting == sum(not gives_up for _, gives_up in queue)
                holders.cancel_scope.cancel()

    run(go, backend)
    places = [(queue[number][0], number) for number in granted]
    expected = [n for n, (_, gives_up) in enumerate(queue) if not gives_up]
    assert sorted(granted) == expected
    if num_slots == 1:  # with more, those granted at once run in any order
        assert all(one < other for one, other in pairwise(places))


async def hold(gate, event):
    async with gate.slot((0, 0)):
        await event.wait()


async def in_scope(scope, function, *args):
    with scope:
        await function(*args)


class Told(FixedLimit):
    """Keeps what it was told."""

    def __init__(self):
        super().__init__(2)
        self.events = []

    def started(self):
        self.events.append("started")
        return len(self.events)

    def finished(self, mark, **report):
        self.events.append((mark, report))

    def failed(self, mark):
        self.events.append((mark, "failed"))


@pytest.mark.parametrize("error", [SamplerError("gone"), TimeoutError(), RequestError("too long")])
def test_the_limit_hears_how_each_request_went(error):
    limit = Told()
    gate = SamplerGate(limit)

    async def go():
        async with gate.slot((0, 0)) as slot:
            await anyio.sleep(3)
            slot.num_tokens = 7
        with pytest.raises(type(error)):
            async with gate.slot((0, 0)):
                raise error
        with anyio.move_on_after(2):
            async with gate.slot((0, 0)):
                await anyio.sleep_forever()

    run(go, "trio")
    report = {"num_tokens": 7, "seconds": 3.0, "num_in_flight": 1}
    failure = [] if isinstance(error, RequestError) else [(3, "failed")]
    assert limit.events == ["started", (1, report), "started", *failure, "started"]
    assert gate.num_in_flight == 0


class StepCounter(trio.abc.Instrument):
    num_steps = 0

    def before_task_step(self, task):
        self.num_steps += 1


def test_ten_thousand_waiters_sleep_until_it_is_their_turn():
    counter = StepCounter()
    gate = SamplerGate(FixedLimit(1))
    served = []

    async def wait(number):
        async with gate.slot((number,)):
            served.append(number)

    async def go():
        async with trio.open_nursery() as tasks:
            async with gate.slot((0,)):
                for number in reversed(range(10_000)):
                    tasks.start_soon(wait, number)
                await trio.testing.wait_all_tasks_blocked()
                trio.lowlevel.add_instrument(counter)
                await trio.sleep(1000)
                assert counter.num_steps <= 2
            await trio.testing.wait_all_tasks_blocked()
            assert counter.num_steps <= 10_010

    trio.run(go, clock=MockClock(autojump_threshold=0))
    assert served == list(range(10_000))
