"""The life of an actor: start, failure, restart, end, and what it owns."""

import logging
from functools import partial

import anyio
import pytest

from tinker_rl.actors import (
    Actor,
    ActorError,
    ActorFailed,
    ActorStopped,
    ActorSystem,
    Escalate,
    Message,
    Restart,
    Stop,
    handler,
)


class Boom(Exception):
    pass


class Oops(Exception):
    pass


class Fatal(BaseException):
    """Not an Exception: nothing that supervision may forgive."""


class Add(Message[int], frozen=True):
    amount: int = 1


class Fail(Message[None], frozen=True):
    error: type[BaseException] = Boom


class FailBeside(Message[None], frozen=True):
    """Fail in a task of the actor, while this message is handled."""


class Spawn(Message[None], frozen=True):
    name: str


class AskChild(Message[int], frozen=True):
    name: str
    message: Message


class TellChild(Message[None], frozen=True):
    name: str
    message: Message


class Note(Message[None], frozen=True):
    text: str


class End(Message[None], frozen=True):
    drain: bool = False


class Sleep(Message[None], frozen=True):
    num_ticks: int


class Counter(Actor):
    """Counts, writes its life into a shared list, and does what it is told to, failing included."""

    stop_seconds = 2.0

    def __init__(self, life, run, name="counter", **faults):
        self.life, self.run, self.name, self.faults = life, run, name, faults
        self.total = 0
        self.children = {}
        self.note("init")

    def note(self, what):
        self.life.append(f"{self.name} {what}")

    def meet(self, fault):
        error = self.faults.get(fault)
        if error is not None:
            raise error

    async def on_start(self):
        await anyio.lowlevel.checkpoint()
        self.meet("on_start")
        self.start_soon(self.idle)
        self.note("started")

    async def on_stop(self):
        self.note("stopping")
        if "hang" in self.faults:
            await anyio.sleep_forever()
        await self.run.pause(1)
        self.meet("on_stop")
        self.note("stopped")

    async def idle(self):
        try:
            await anyio.sleep_forever()
        finally:
            self.note("idle task ended")

    @handler
    async def add(self, message: Add) -> int:
        self.total += message.amount
        return self.total

    @handler
    async def fail(self, message: Fail) -> None:
        raise message.error("as told")

    @handler
    async def fail_beside(self, message: FailBeside) -> None:
        async def fail():
            raise Boom("beside")

        self.start_soon(fail)
        await anyio.sleep_forever()

    @handler
    async def spawn_child(self, message: Spawn) -> None:
        self.children[message.name] = await self.spawn(
            Counter, self.life, self.run, message.name, name=message.name
        )

    @handler
    async def ask_child(self, message: AskChild) -> int:
        return await self.children[message.name].ask(message.message)

    @handler
    async def tell_child(self, message: TellChild) -> None:
        await self.children[message.name].tell(message.message)

    @handler
    async def write(self, message: Note) -> None:
        self.note(message.text)

    @handler
    async def end(self, message: End) -> None:
        self.stop_soon(drain=message.drain)

    @handler
    async def sleep(self, message: Sleep) -> None:
        await self.run.pause(message.num_ticks)


def leaves(error):
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


def run_in_system(run, body):
    """Run `body(system, life)` in a system; return the life that was written down."""
    life = []

    async def main():
        async with ActorSystem() as system:
            await body(system, life)

    run(main)
    return life


def test_a_life_in_order(run):
    async def body(system, life):
        ref = await system.spawn(Counter, life, run)
        assert life == ["counter init", "counter started"]
        assert await ref.ask(Add(2)) == 2
        assert await ref.ask(Add(3)) == 5
        await ref.stop()
        assert ref.is_stopped

    assert run_in_system(run, body)[2:] == [
        "counter stopping",
        "counter stopped",
        "counter idle task ended",
    ]


def test_a_failed_start_reaches_the_spawner_and_nobody_else(run):
    error = Boom("no start")

    async def body(system, life):
        other = await system.spawn(Counter, life, run, "other")
        with pytest.raises(Boom) as caught:
            await system.spawn(partial(Counter, on_start=error), life, run, supervision=Restart())
        assert caught.value is error
        with pytest.raises(TypeError):
            await system.spawn(Counter)
        assert life[2:] == ["counter init"]
        assert await other.ask(Add()) == 1

    run_in_system(run, body)


def test_what_is_not_an_actor_cannot_be_spawned(run):
    async def body(system, life):
        with pytest.raises(TypeError, match="expected a factory that returns an Actor"):
            await system.spawn(dict)
        with pytest.raises(ValueError, match="expected a capacity of 0 or more"):
            await system.spawn(Counter, life, run, mailbox=-1)

    run_in_system(run, body)


def test_a_cancelled_start_leaves_no_actor(run):
    class Slow(Actor):
        async def on_start(self):
            await anyio.sleep_forever()

        async def on_stop(self):
            raise AssertionError("it never started")

    async def body(system, life):
        assert await run.cancel_after(2, system.spawn, Slow)

    run_in_system(run, body)


def test_an_actor_that_was_not_spawned_says_so():
    for use in (
        lambda actor: actor.ref,
        lambda actor: actor.stop_soon(),
        lambda actor: actor.start_soon(anyio.sleep, 0),
    ):
        with pytest.raises(ActorError, match="expected a started actor"):
            use(Actor())


def test_a_system_works_only_inside_its_with(run):
    async def main():
        system = ActorSystem()
        with pytest.raises(ActorError, match="expected use within `async with`"):
            await system.spawn(Actor)
        async with system:
            await system.stop()
            with pytest.raises(ActorStopped, match="expected an owner that goes on"):
                await system.spawn(Actor)
        with pytest.raises(ActorError, match="expected use within `async with`"):
            await system.stop()

    run(main)


def test_a_restart_begins_anew_with_the_same_arguments_behind_the_same_ref(run):
    async def body(system, life):
        ref = await system.spawn(Counter, life, run, supervision=Restart(backoff_seconds=0))
        await ref.ask(Add(40))
        with pytest.raises(Boom, match="as told"):
            await ref.ask(Fail())
        assert await ref.ask(Add(2)) == 2

    one = ["init", "started", "stopping", "stopped", "idle task ended"]
    assert run_in_system(run, body) == [f"counter {what}" for what in one * 2]


def test_a_failing_restart_costs_the_budget_too(run):
    faults = {}

    def make(life):
        return Counter(life, run, **faults)

    async def body(system, life):
        ref = await system.spawn(make, life, supervision=Restart(max_restarts=3, backoff_seconds=0))
        faults["on_start"] = Oops("cannot start again")
        await ref.tell(Fail())
        await ref.wait_stopped()
        assert life.count("counter init") == 4

    with pytest.raises(ExceptionGroup) as caught:
        run_in_system(run, body)
    assert leaves(caught.value) == [faults["on_start"]]


def test_restarts_wait_twice_as_long_each_time_and_messages_wait_with_them(run_virtual):
    async def body(system, life):
        policy = Restart(max_restarts=4, backoff_seconds=3, max_backoff_seconds=10)
        ref = await system.spawn(Counter, life, run_virtual, supervision=policy)
        waits = []
        for _ in range(4):
            with pytest.raises(Boom):
                await ref.ask(Fail())
            failed = anyio.current_time()
            assert await ref.ask(Add()) == 1
            waits.append(anyio.current_time() - failed - 1)  # on_stop takes a second
        assert waits == [3, 6, 10, 10]

    run_in_system(run_virtual, body)


def test_stop_ends_the_wait_for_a_restart(run):
    async def body(system, life):
        policy = Restart(backoff_seconds=1e6, max_backoff_seconds=1e6)
        ref = await system.spawn(Counter, life, run, supervision=policy)
        with pytest.raises(Boom):
            await ref.ask(Fail())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(expect_stopped, ref)
            await run.pause(5)
            await ref.stop()
        assert life.count("counter init") == 1

    run_in_system(run, body)


async def expect_stopped(ref):
    with pytest.raises(ActorStopped):
        await ref.ask(Add())


def test_a_drain_ends_the_wait_for_a_restart_when_the_last_message_is_taken_back(run):
    async def body(system, life):
        policy = Restart(backoff_seconds=1e6, max_backoff_seconds=1e6)
        ref = await system.spawn(Counter, life, run, supervision=policy)
        with pytest.raises(Boom):
            await ref.ask(Fail())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.cancel_after, 10, ref.ask, Add())
            await run.pause(5)
            with anyio.fail_after(1e5):
                await ref.stop(drain=True)
        assert life.count("counter init") == 1

    run_in_system(run, body)


def test_under_stop_the_failure_is_logged_and_is_the_cause_of_every_later_refusal(run, caplog):
    async def body(system, life):
        other = await system.spawn(Counter, life, run, "other")
        ref = await system.spawn(Counter, life, run, name="one", supervision=Stop())
        causes = []

        async def ask():
            with pytest.raises(ActorStopped) as caught:
                await ref.ask(Add())
            causes.append(caught.value.__cause__)

        async with anyio.create_task_group() as tasks:
            await ref.tell(Fail())
            tasks.start_soon(ask)
            tasks.start_soon(ask)
        await ref.wait_stopped()
        await ask()
        assert [str(cause) for cause in causes] == ["as told"] * 3
        assert await other.ask(Add()) == 1

    with caplog.at_level(logging.ERROR, "tinker_rl.actors"):
        run_in_system(run, body)
    (record,) = caplog.records
    assert record.getMessage() == "actor /one failed and is stopped"
    assert isinstance(record.exc_info[1], Boom)


def test_escalate_brings_the_original_error_out_of_the_system(run):
    async def body(system, life):
        ref = await system.spawn(Counter, life, run, name="one", supervision=Escalate())
        await ref.tell(Fail(Oops))
        await anyio.sleep_forever()  # the failure cancels the body

    with pytest.raises(ExceptionGroup) as caught:
        run_in_system(run, body)
    (error,) = leaves(caught.value)
    assert isinstance(error, Oops)
    assert error.__notes__ == ["in actor /one, handling Fail"]


def test_a_childs_failure_fails_its_parent_whose_restart_spares_nobody_below(run):
    async def body(system, life):
        parent = await system.spawn(
            Counter, life, run, "parent", supervision=Restart(backoff_seconds=0)
        )
        await parent.ask(Spawn("child"))
        await parent.ask(Spawn("sibling"))
        with pytest.raises((Boom, ActorFailed)):  # whichever comes first: answer or failure
            await parent.ask(AskChild("child", Fail()))
        assert await parent.ask(Add()) == 1
        assert [line for line in life if line.endswith("init")] == [
            "parent init",
            "child init",
            "sibling init",
            "parent init",
        ]
        assert "sibling stopped" in life

    run_in_system(run, body)


def test_a_failing_task_fails_its_actor_and_the_message_at_hand_with_it(run):
    async def body(system, life):
        ref = await system.spawn(Counter, life, run, supervision=Restart(backoff_seconds=0))
        with pytest.raises(ActorFailed) as caught:
            await ref.ask(FailBeside())
        assert str(caught.value.__cause__) == "beside"
        assert await ref.ask(Add()) == 1

    run_in_system(run, body)


def test_a_reply_error_is_an_answer_to_an_ask_and_a_failure_in_a_tell(run):
    class Polite(Counter):
        reply_errors = (Oops,)

    async def body(system, life):
        ref = await system.spawn(Polite, life, run)
        await ref.ask(Add(5))
        with pytest.raises(Oops):
            await ref.ask(Fail(Oops))
        assert await ref.ask(Add()) == 6
        await ref.tell(Fail(Oops))
        await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        run_in_system(run, body)
    assert isinstance(leaves(caught.value)[0], Oops)


def test_children_are_stopped_youngest_first_after_on_stop(run):
    async def body(system, life):
        parent = await system.spawn(Counter, life, run, "parent")
        await parent.ask(Spawn("first"))
        await parent.ask(Spawn("second"))
        await parent.stop()

    life = run_in_system(run, body)
    assert [line for line in life if line.endswith(("stopping", "stopped"))] == [
        "parent stopping",
        "parent stopped",
        "second stopping",
        "second stopped",
        "first stopping",
        "first stopped",
    ]
    assert life[-1] == "parent idle task ended"


@pytest.mark.parametrize("how", ["stop", "drain", "drain, then stop"])
def test_children_are_drained_if_their_parent_is(run, how):
    async def body(system, life):
        parent = await system.spawn(Counter, life, run, "parent")
        await parent.ask(Spawn("child"))
        await parent.ask(TellChild("child", Sleep(9)))
        await parent.ask(TellChild("child", Note("was drained")))
        await parent.tell(Sleep(3))
        await run.pause(1)
        async with anyio.create_task_group() as tasks:
            if how != "stop":
                tasks.start_soon(partial(parent.stop, drain=True))
                await run.pause(1)
            if how != "drain":
                tasks.start_soon(parent.stop)

    assert ("child was drained" in run_in_system(run, body)) == (how == "drain")


@pytest.mark.parametrize("drain", [False, True])
def test_an_actor_can_end_itself(run, drain):
    async def body(system, life):
        ref = await system.spawn(Counter, life, run)
        results = []

        async def ask(message):
            try:
                results.append(await ref.ask(message))
            except ActorStopped:
                results.append("stopped")

        async with anyio.create_task_group() as tasks:
            await ref.tell(Sleep(3))
            tasks.start_soon(ask, End(drain))
            await run.pause(1)
            tasks.start_soon(ask, Add())
        await ref.wait_stopped()
        assert results.count(None) == 1
        assert results.count(1 if drain else "stopped") == 1

    run_in_system(run, body)


def test_a_stop_hastens_a_drain(run):
    async def body(system, life):
        ref = await system.spawn(Counter, life, run)
        await ref.tell(Sleep(10))
        await ref.tell(Fail())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(ref.stop, drain=True))
            await run.pause(2)
            assert not ref.is_stopped
            await ref.stop()
            await ref.stop(drain=True)

    run_in_system(run, body)


def test_on_stop_is_shielded_from_a_cancellation(run):
    life = []

    async def main():
        async with ActorSystem() as system:
            ref = await system.spawn(Counter, life, run)
            await ref.ask(Sleep(100))

    async def cancelled():
        assert await run.cancel_after(5, main)

    run(cancelled)
    assert life[-1] == "counter stopped"


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_an_on_stop_that_hangs_is_cut_off_and_reported(run, is_cancelled):
    life = []

    class Hanging(Counter):
        stop_seconds = 0.05

    async def main():
        async with ActorSystem() as system:
            await system.spawn(partial(Hanging, hang=True), life, run)
            if is_cancelled:
                await anyio.sleep_forever()

    async def maybe_cancelled():
        await (run.cancel_after(3, main) if is_cancelled else main())

    with pytest.raises(ExceptionGroup) as caught:
        run(maybe_cancelled)
    (error,) = leaves(caught.value)
    assert isinstance(error, ActorError)
    assert "expected on_stop to end within 0.05 s" in str(error)


def test_a_failure_and_a_failure_of_on_stop_are_both_kept(run):
    async def body(system, life):
        ref = await system.spawn(partial(Counter, on_stop=Oops("no stop")), life, run)
        await ref.tell(Fail())
        await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        run_in_system(run, body)
    assert [type(error) for error in leaves(caught.value)] == [Boom, Oops]


def test_an_error_beyond_exception_is_not_supervised_but_everybody_is_answered(run):
    answers = []

    async def body(system, life):
        ref = await system.spawn(Counter, life, run, supervision=Restart(backoff_seconds=0))

        async def ask(message):
            try:
                await ref.ask(message)
            except ActorStopped as error:
                answers.append(error)

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, Fail(Fatal))
                tasks.start_soon(ask, Add())

    with pytest.raises(BaseExceptionGroup) as caught:
        run_in_system(run, body)
    assert [type(error) for error in leaves(caught.value)] == [Fatal]
    assert answers


def test_an_exception_in_the_body_cancels_the_actors_and_comes_out(run):
    life = []

    async def main():
        async with ActorSystem() as system:
            ref = await system.spawn(Counter, life, run)
            await ref.tell(Sleep(1000))
            raise Oops("body")

    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert [str(error) for error in leaves(caught.value)] == ["body"]
    assert "counter stopped" in life


def test_a_failure_that_a_cancellation_meets_is_still_judged_by_its_supervisor(run):
    life = []

    async def main():
        async with ActorSystem() as system:
            ref = await system.spawn(Slow, life, run, supervision=Restart(backoff_seconds=0))
            await ref.tell(Fail())
            await anyio.sleep_forever()

    async def cancelled():
        assert await run.cancel_after(8, main)  # while on_stop of the failed one goes on

    class Slow(Counter):
        stop_seconds = 60.0

        async def on_stop(self):
            await run.pause(20)
            self.note("stopped")

    run(cancelled)
    assert life.count("counter init") == 1
    assert life.count("counter stopped") == 1


def test_a_busy_actor_leaves_others_their_turn(run):
    async def main():
        order = []

        async def mark():
            await anyio.lowlevel.checkpoint()
            order.append("other")

        async with ActorSystem() as system, anyio.create_task_group() as tasks:
            ref = await system.spawn(Counter, [], run, mailbox=1000)
            for _ in range(1000):
                ref.tell_nowait(Add())
            tasks.start_soon(mark)
            await ref.ask(Add())
            order.append("busy")
        assert order == ["other", "busy"]

    run(main)
