"""What a ref lets a caller do."""

from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from anyio import from_thread
from anyio.lowlevel import current_token

from tinker_rl.actors import (
    Actor,
    ActorStopped,
    ActorSystem,
    MailboxFull,
    Message,
    UnhandledMessage,
    handler,
)


class Put(Message[int], frozen=True):
    value: int


class PutTwice(Put, frozen=True):
    pass


class Foreign(Message[None], frozen=True):
    pass


class Store(Actor):
    """Keeps what it is sent once its gate is open, and replies how much that is."""

    def __init__(self, gate=None):
        self.gate = gate
        self.values = []

    @handler
    async def put(self, message: Put) -> int:
        if self.gate is not None:
            await self.gate.wait()
        self.values.append(message.value)
        return len(self.values)


def run_in_system(run, body):
    async def main():
        async with ActorSystem() as system:
            await body(system)

    run(main)


def test_an_ask_has_the_handlers_reply_and_a_tell_has_none(run):
    async def body(system):
        ref = await system.spawn(Store)
        assert await ref.ask(Put(1)) == 1
        assert await ref.tell(Put(2)) is None
        assert ref.tell_nowait(Put(3)) is None
        assert await ref.ask(PutTwice(4)) == 4

    run_in_system(run, body)


def test_a_message_without_handler_is_refused_before_it_is_sent(run):
    async def body(system):
        ref = await system.spawn(Store)
        for send in (ref.ask, ref.tell):
            with pytest.raises(UnhandledMessage, match=r"Store handles \(Put\); got Foreign"):
                await send(Foreign())
        with pytest.raises(TypeError, match="got Foreign"):
            ref.tell_nowait(Foreign())
        assert await ref.ask(Put(1)) == 1

    run_in_system(run, body)


@pytest.mark.parametrize("mailbox", [0, 1, 3])
def test_a_tell_waits_for_room_and_tell_nowait_refuses_to(run, mailbox):
    async def body(system):
        gate = anyio.Event()
        store = Store(gate)
        ref = await system.spawn(lambda: store, mailbox=mailbox)
        sent = []

        async def tell_many():
            for value in range(mailbox + 3):
                await ref.tell(Put(value))
                sent.append(value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell_many)
            await run.pause(10)
            assert sent == list(range(mailbox + 1))  # one at hand, the others in the mailbox
            with pytest.raises(MailboxFull, match=rf"got {mailbox} of {mailbox} places taken, 1"):
                ref.tell_nowait(Put(100))
            gate.set()
        assert await ref.ask(Put(7)) == mailbox + 4
        assert store.values == [*range(mailbox + 3), 7]

    run_in_system(run, body)


def test_a_tell_cancelled_while_it_waits_for_room_is_not_sent(run):
    async def body(system):
        gate = anyio.Event()
        store = Store(gate)
        ref = await system.spawn(lambda: store, mailbox=0)
        await ref.tell(Put(1))
        assert await run.cancel_after(3, ref.tell, Put(2))
        gate.set()
        assert await ref.ask(Put(3)) == 2
        assert store.values == [1, 3]

    run_in_system(run, body)


def test_a_cancelled_scope_sends_nothing(run):
    async def body(system):
        store = Store()
        ref = await system.spawn(lambda: store)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ref.tell(Put(1))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ref.ask(Put(2))
        assert await ref.ask(Put(3)) == 1

    run_in_system(run, body)


def test_a_stopped_actor_refuses_at_once(run):
    async def body(system):
        ref = await system.spawn(Store, name="store")
        assert repr(ref) == "<ActorRef /store>"
        await ref.stop()
        await ref.stop()
        await ref.wait_stopped()
        assert repr(ref) == "<ActorRef /store (stopped)>"
        for send in (ref.ask, ref.tell):
            with pytest.raises(ActorStopped, match="/store: expected an actor that takes messages"):
                await send(Put(1))
        with pytest.raises(ActorStopped):
            ref.tell_nowait(Put(1))

    run_in_system(run, body)


def test_senders_that_wait_for_room_are_answered_when_the_actor_is_stopped(run):
    async def body(system):
        ref = await system.spawn(Store, anyio.Event(), mailbox=0)
        refused = []

        async def send(how):
            with pytest.raises(ActorStopped):
                await how(Put(2))
            refused.append(how)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ref.tell, Put(1))
            await run.pause(2)
            tasks.start_soon(send, ref.tell)
            tasks.start_soon(send, ref.ask)
            await run.pause(2)
            with anyio.move_on_after(0):
                await ref.stop()  # the message at hand never ends, but the others need not wait
            await run.pause(2)
            assert len(refused) == 2
            tasks.cancel_scope.cancel()
        raise KeyError("to leave")

    with pytest.raises(ExceptionGroup):
        run_in_system(run, body)


def test_another_thread_asks_through_the_loop(run):
    async def main():
        async with ActorSystem() as system:
            ref = await system.spawn(Store)
            token = current_token()

            def ask_from_a_plain_thread():
                return from_thread.run(ref.ask, Put(1), token=token)

            answered = anyio.Event()
            with ThreadPoolExecutor(1) as pool:
                future = pool.submit(ask_from_a_plain_thread)
                future.add_done_callback(lambda _: from_thread.run_sync(answered.set, token=token))
                await answered.wait()
            assert future.result() == 1

    anyio.run(main, backend=run.backend)  # on the real clock, since a thread takes part


def test_names_make_paths_and_default_to_the_class_and_a_count(run):
    async def body(system):
        refs = [await system.spawn(Store), await system.spawn(Store), await system.spawn(Parent)]
        assert [ref.path for ref in refs] == ["/Store-1", "/Store-2", "/Parent-3"]
        assert await refs[2].ask(Put(0)) == "/Parent-3/child"

    class Parent(Actor):
        @handler
        async def put(self, message: Put) -> int:
            return (await self.spawn(Store, name="child")).path

    run_in_system(run, body)
