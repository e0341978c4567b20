"""The guarantees of the runtime, over drawn schedules of work, failures, stops and cancellations.

Every property runs on trio in virtual time, with drawn interleavings, and on asyncio.
"""

import asyncio
import logging
from collections import Counter
from typing import Literal

import anyio
import pytest
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tinker_rl.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    ActorSystem,
    Escalate,
    MailboxFull,
    Message,
    Restart,
    Stop,
    handler,
)

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(scope="module")
def quiet():
    """No tracebacks of the failures that are meant."""
    logger = logging.getLogger("tinker_rl.actors.cell")
    logger.disabled = True
    yield
    logger.disabled = False


class Boom(Exception):
    """A failure of an actor."""


class Refused(Exception):
    """A reply error: an answer."""


Ending = Literal["reply", "refuse", "fail", "task fails", "child fails", "ask child", "tell self"]


class Work(Message[int], frozen=True):
    number: int
    """Which message this is, among all of the run."""
    num_ticks: int
    ending: Ending


class Log:
    """What happened, in order."""

    def __init__(self, run):
        self.run = run
        self.events = []
        self.num_live = 0
        self.booms = []
        self.refusals = []

    def boom(self):
        self.booms.append(Boom(f"boom {len(self.booms)}"))
        return self.booms[-1]

    def refusal(self):
        self.refusals.append(Refused())
        return self.refusals[-1]

    async def occupy(self, num_ticks):
        """Live for some ticks, counted among the tasks that nothing may outlive."""
        self.num_live += 1
        try:
            await (anyio.sleep_forever() if num_ticks is None else self.run.pause(num_ticks))
        finally:
            self.num_live -= 1

    def add(self, what, actor, *details):
        self.events.append((what, actor, *details))


class Worker(Actor):
    reply_errors = (Refused,)

    def __init__(self, log, key, stop_ticks):
        self.log = log
        self.key = key
        self.stop_ticks = stop_ticks

    async def on_start(self):
        self.log.add("start", self.key, id(self))
        self.start_soon(self.log.occupy, None)
        await self.log.occupy(1)
        self.log.add("started", self.key, id(self))

    async def on_stop(self):
        self.log.add("stop", self.key, id(self))
        await self.log.occupy(self.stop_ticks)
        self.log.add("stopped", self.key, id(self))

    @handler
    async def work(self, message: Work) -> int:
        self.log.add("begin", self.key, message.number)
        try:
            await self.log.occupy(message.num_ticks)
            await self.finish(message)
        finally:
            self.log.add("end", self.key, message.number)
        return message.number

    async def finish(self, message):
        match message.ending:
            case "refuse":
                raise self.log.refusal()  # an answer to an ask, a failure in a tell
            case "fail":
                raise self.log.boom()
            case "task fails":
                self.start_soon(self.fail)
                await self.log.occupy(3)
            case "child fails" | "ask child":
                child = await self.spawn(Worker, self.log, (self.key, message.number), 1)
                ending = "fail" if message.ending == "child fails" else "reply"
                await child.ask(Work(-message.number - 1, 1, ending))
            case "tell self":
                try:
                    self.ref.tell_nowait(Work(message.number + 100_000, 1, "reply"))
                except (ActorStopped, MailboxFull):
                    pass
                else:
                    self.log.add("told", self.key, message.number + 100_000)

    async def fail(self):
        raise self.log.boom()


class Send(Message[None], frozen=True):
    """A step of a sender. (A message only for its typed, frozen fields.)"""

    target: int
    how: Literal["ask", "tell", "tell_nowait"]
    pause: int
    num_ticks: int
    ending: Ending
    patience: int | None
    """Ticks after which the sender's wait is cancelled; None to wait as long as it takes."""


def sends(endings, patiences):
    return st.builds(
        Send,
        target=st.integers(0, 2),
        how=st.sampled_from(["ask", "tell", "tell_nowait"]),
        pause=st.integers(0, 3),
        num_ticks=st.integers(0, 4),
        ending=st.sampled_from(endings),
        patience=patiences,
    )


ALL_ENDINGS = ["reply", "refuse", "fail", "task fails", "child fails", "ask child", "tell self"]
FOREVER = Restart(max_restarts=1000, within_seconds=1e6, backoff_seconds=0)
scenario = {
    "schedule": st.random_module(),
    "mailboxes": st.lists(st.integers(0, 3), min_size=3, max_size=3),
    "stop_ticks": st.integers(0, 2),
}


class Outcome:
    """How one message fared: what its sender saw, and who it was meant for."""

    def __init__(self, target, how):
        self.target = target
        self.how = how
        self.result = "lost"


async def play(run, log, system, senders, mailboxes, supervisions, stop_ticks):
    """Spawn three workers and let every sender go through its steps."""
    refs = [
        await system.spawn(
            Worker, log, i, stop_ticks, mailbox=mailboxes[i], supervision=supervisions[i]
        )
        for i in range(3)
    ]
    outcomes = log.outcomes = {}

    async def deliver(number, step):
        outcome = outcomes[number] = Outcome(step.target, step.how)
        ref, message = refs[step.target], Work(number, step.num_ticks, step.ending)
        log.add("send", step.target, number)
        try:
            if step.how == "ask":
                assert await ref.ask(message) == number
                outcome.result = "answered"
            elif step.how == "tell":
                await ref.tell(message)
                outcome.result = "told"
                log.add("told", step.target, number)
            else:
                ref.tell_nowait(message)
                outcome.result = "told"
                log.add("told", step.target, number)
        except (Boom, Refused, ActorStopped, ActorFailed, MailboxFull) as error:
            outcome.result = type(error).__name__
        except BaseException:
            outcome.result = "cancelled"
            raise

    async def send_all(first, steps):
        for offset, step in enumerate(steps):
            await run.pause(step.pause)
            if step.patience is None:
                await deliver(first + offset, step)
            else:
                await run.cancel_after(step.patience, deliver, first + offset, step)

    async with anyio.create_task_group() as tasks:
        for i, steps in enumerate(senders):
            tasks.start_soon(send_all, 1000 * i, steps)


def num_tasks(run):
    if run.backend == "asyncio":
        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living


def of(log, *kinds):
    return [e for e in log.events if e[0] in kinds]


def check_always(log, senders, mailboxes):
    """What holds however the run ended."""
    begun = [number for _, _, number in of(log, "begin")]
    assert len(begun) == len(set(begun)), "a message was handled twice"
    assert all(o.result != "lost" for o in log.outcomes.values()), "a send never ended"
    assert log.num_live == 0, "something outlived the system"

    # One message at a time, within the life of one incarnation, one incarnation at a time.
    for key in {e[1] for e in log.events}:
        events = [e for e in log.events if e[1] == key]
        state, incarnation = "none", None
        for what, _, detail in events:
            match what:
                case "start":
                    assert state in ("none", "starting"), "two incarnations at once"
                    state, incarnation = "starting", detail
                case "started":
                    assert (state, incarnation) == ("starting", detail)
                    state = "idle"
                case "begin":
                    assert state == "idle", "two messages at once, or outside of a life"
                    state = detail
                case "end":
                    assert state == detail
                    state = "idle"
                case "stop":
                    assert (state, incarnation) == ("idle", detail), "on_stop twice, or too soon"
                    state = "stopping"
                case "stopped":
                    assert state == "stopping"
                    state = "none"
        assert state in ("none", "starting"), "on_stop was left out"

    # Messages of one sender to one actor are begun in the order in which they were sent.
    for i in range(len(senders)):
        for target in range(3):
            numbers = [
                n for _, key, n in of(log, "begin") if key == target and n // 1000 == i and n >= 0
            ]
            assert numbers == sorted(numbers)

    # Told and not yet begun: never more than the mailbox holds.
    for target in range(3):
        waiting = set()
        begun = set()
        for what, key, number in log.events:
            if key == target and what == "told" and number not in begun:
                waiting.add(number)
            elif key == target and what == "begin":
                begun.add(number)
                waiting.discard(number)
            assert len(waiting) <= mailboxes[target]

    # Who was answered was served to the end; who gave up in time, or was refused, was not begun.
    ended = {number for _, _, number in of(log, "end")}
    begun = {number for _, _, number in of(log, "begin")}
    for number, outcome in log.outcomes.items():
        event(f"{outcome.how}: {outcome.result}")
        if outcome.result in ("answered", "Boom", "Refused", "ActorFailed"):
            assert number in ended
        if outcome.result == "MailboxFull" or (
            outcome.how != "ask" and outcome.result == "ActorStopped"
        ):
            assert number not in begun


@settings(max_examples=150, deadline=None)
@given(
    senders=st.lists(st.lists(sends(ALL_ENDINGS, st.none()), max_size=6), max_size=4),
    backoff=st.integers(0, 3),
    **scenario,
)
def test_no_message_is_lost_or_handled_twice_while_its_actor_lives(
    run, schedule, senders, mailboxes, stop_ticks, backoff
):
    log = Log(run)
    seconds = backoff if run.backend == "trio" else 0
    policy = Restart(max_restarts=1000, within_seconds=1e6, backoff_seconds=seconds)

    async def main():
        before = num_tasks(run)
        async with ActorSystem() as system:
            await play(run, log, system, senders, mailboxes, [policy] * 3, stop_ticks)
        assert num_tasks(run) == before

    run(main)
    check_always(log, senders, mailboxes)
    begun = Counter(number for _, _, number in of(log, "begin"))
    for number, outcome in log.outcomes.items():
        assert outcome.result in ("answered", "told", "Boom", "Refused", "ActorFailed") or (
            outcome.how == "tell_nowait" and outcome.result == "MailboxFull"
        )
        assert begun[number] == (outcome.result != "MailboxFull")
    for _, _, number in of(log, "told"):
        assert begun[number] == 1


@settings(max_examples=150, deadline=None)
@given(
    senders=st.lists(
        st.lists(sends(ALL_ENDINGS, st.none() | st.integers(0, 4)), max_size=6), max_size=4
    ),
    supervisions=st.lists(
        st.sampled_from([FOREVER, Restart(1, 1e6, 0), Stop(), Escalate()]), min_size=3, max_size=3
    ),
    stop_at=st.none() | st.tuples(st.integers(0, 12), st.booleans()),
    cancel_at=st.none() | st.integers(0, 15),
    **scenario,
)
def test_whatever_happens_every_send_ends_and_no_task_is_left(
    run, schedule, senders, mailboxes, stop_ticks, supervisions, stop_at, cancel_at
):
    log = Log(run)
    log.outcomes = {}
    failures = []

    async def body():
        async with ActorSystem() as system, anyio.create_task_group() as tasks:

            async def stop_early():
                await run.pause(stop_at[0])
                await system.stop(drain=stop_at[1])

            if stop_at is not None:
                tasks.start_soon(stop_early)
            try:
                await play(run, log, system, senders, mailboxes, supervisions, stop_ticks)
            except* ActorStopped:
                assert stop_at is not None  # it came before the three were spawned

    async def main():
        before = num_tasks(run)
        try:
            if cancel_at is None:
                await body()
            else:
                await run.cancel_after(cancel_at, body)
        except* (Boom, Refused) as group:
            failures.append(group)
        assert num_tasks(run) == before

    run(main)
    check_always(log, senders, mailboxes)
    if failures:
        event("escalated")
        assert set(leaves(failures[0])) <= {*log.booms, *log.refusals}
        assert any(isinstance(s, Escalate) or s == Restart(1, 1e6, 0) for s in supervisions)
    elif cancel_at is None and all(isinstance(s, Escalate) for s in supervisions):
        # Nothing else swallows a failure, other than not having been met.
        assert log.booms == []


def leaves(group):
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


@settings(max_examples=120, deadline=None)
@given(
    schedule=st.random_module(),
    num_asks=st.integers(1, 5),
    mailbox=st.integers(0, 3),
    patience=st.integers(0, 6),
    num_ticks=st.integers(0, 3),
)
def test_an_ask_cancelled_before_it_began_is_not_handled_and_one_begun_is_finished(
    run, schedule, num_asks, mailbox, patience, num_ticks
):
    log = Log(run)

    async def ask(ref, number):
        log.add("send", 0, number)
        await ref.ask(Work(number, num_ticks, "reply"))

    async def ask_impatiently(ref, number):
        if await run.cancel_after(patience, ask, ref, number):
            log.add("gave up", 0, number)

    async def main():
        async with ActorSystem() as system:
            ref = await system.spawn(Worker, log, 0, 0, mailbox=mailbox)
            async with anyio.create_task_group() as tasks:
                for number in range(num_asks):
                    tasks.start_soon(ask_impatiently, ref, number)

    run(main)
    begun = [number for _, _, number in of(log, "begin")]
    assert begun == [number for _, _, number in of(log, "end")]
    given_up = {number for _, _, number in of(log, "gave up")}
    assert set(range(num_asks)) - given_up <= set(begun)
    for number in given_up & set(begun):
        assert log.events.index(("begin", 0, number)) < log.events.index(("gave up", 0, number))


@settings(max_examples=60, deadline=None)
@given(
    schedule=st.random_module(),
    num_failures=st.integers(0, 6),
    max_restarts=st.integers(0, 4),
)
def test_an_actor_is_restarted_as_often_as_its_budget_allows_and_then_escalates(
    run, schedule, num_failures, max_restarts
):
    log = Log(run)
    policy = Restart(max_restarts=max_restarts, within_seconds=1e6, backoff_seconds=0)
    seen = []

    async def main():
        async with ActorSystem() as system:
            ref = await system.spawn(Worker, log, 0, 0, supervision=policy)
            for number in range(num_failures):
                try:
                    await ref.ask(Work(number, 0, "fail"))
                except (Boom, ActorStopped) as error:
                    seen.append(error)
            if num_failures <= max_restarts:
                assert await ref.ask(Work(1000, 0, "reply")) == 1000

    if num_failures > max_restarts:
        with pytest.raises(ExceptionGroup) as caught:
            run(main)
        assert list(leaves(caught.value)) == [log.booms[max_restarts]]
    else:
        run(main)
        assert seen == log.booms
    assert len(of(log, "start")) == 1 + min(num_failures, max_restarts)
    failed = [number for _, _, number in of(log, "begin") if number < 1000]
    assert failed == list(range(min(num_failures, max_restarts + 1)))


@settings(max_examples=120, deadline=None)
@given(
    schedule=st.random_module(),
    num_asks=st.integers(0, 6),
    mailbox=st.integers(0, 3),
    stop_at=st.integers(0, 8),
    drain=st.booleans(),
)
def test_stop_answers_everybody_and_drain_handles_what_was_sent(
    run, schedule, num_asks, mailbox, stop_at, drain
):
    log = Log(run)
    results = {}

    async def ask(ref, number):
        log.add("send", 0, number)
        try:
            results[number] = await ref.ask(Work(number, 1, "reply"))
        except ActorStopped:
            results[number] = "stopped"

    async def main():
        async with ActorSystem() as system, anyio.create_task_group() as tasks:
            ref = await system.spawn(Worker, log, 0, 1, mailbox=mailbox)
            for number in range(num_asks):
                tasks.start_soon(ask, ref, number)
            await run.pause(stop_at)
            log.add("stopping", 0, None)
            await ref.stop(drain=drain)
            assert ref.is_stopped
            assert log.num_live == 0
            log.add("ended", 0, None)
            with pytest.raises(ActorStopped):
                await ref.ask(Work(1000, 0, "reply"))

    run(main)
    assert len(results) == num_asks
    begun = {number for _, _, number in of(log, "begin")}
    assert {n for n, result in results.items() if result == n} == begun
    kinds = [e for e in log.events if e[0] in ("send", "begin", "stopping", "ended")]
    stopping = kinds.index(("stopping", 0, None))
    sent_before = {e[2] for e in kinds[:stopping] if e[0] == "send"}
    begun_before = {e[2] for e in kinds[:stopping] if e[0] == "begin"}
    if drain:
        assert begun == sent_before
    else:
        assert begun == begun_before
    assert kinds[-1][0] in ("ended", "send")
