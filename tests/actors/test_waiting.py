"""Actors that would wait for themselves are told so; those that would not are left alone."""

import anyio
import pytest

from tinker_rl.actors import Actor, ActorDeadlock, ActorSystem, Message, handler


class Call(Message[str], frozen=True):
    """What to do, as the name of one of the methods below."""

    action: str


class Caller(Actor):
    """Does what a message says, towards `peer`."""

    def __init__(self, run, peer=None, system=None):
        self.run, self.peer, self.system = run, peer, system
        self.later = []

    @handler
    async def call(self, message: Call) -> str:
        try:
            return await getattr(self, message.action)() or "done"
        except ActorDeadlock as error:
            return f"deadlock: {error}"

    async def ask_self(self):
        return await self.ref.ask(Call("nothing"))

    async def nothing(self):
        pass

    async def ask_peer_to_ask_back(self):
        self.peer.give(self.ref)
        return await self.peer.ref.ask(Call("ask_friend"))

    async def stop_self(self):
        await self.ref.stop()

    async def wait_for_own_end(self):
        await self.ref.wait_stopped()

    async def stop_system(self):
        await self.system.stop()

    async def fill_own_mailbox(self):
        for _ in range(5):
            await self.ref.tell(Call("nothing"))

    async def ask_self_later(self):
        self.start_soon(self.do_later)

    async def do_later(self):
        self.later.append(await self.ref.ask(Call("nothing")))

    async def report(self):
        return ",".join(self.later)

    async def spawn_child_that_asks(self):
        await self.spawn(AskingChild, self.ref)

    async def have_child_stop_me(self):
        child = await self.spawn(Friend, None)
        child_owner = Friend.last
        child_owner.friend = self.ref
        await child.tell(Call("stop_friend"))
        self.child = child_owner

    async def child_report(self):
        return self.child.heard


class Friend(Actor):
    """An actor that is given a ref to its caller."""

    last = None
    reply_errors = (ActorDeadlock,)

    def __init__(self, friend):
        self.friend = friend
        self.heard = None
        Friend.last = self

    @handler
    async def call(self, message: Call) -> str:
        if message.action == "stop_friend":
            try:
                await self.friend.stop()
            except ActorDeadlock as error:
                self.heard = f"deadlock: {error}"
            return ""
        if message.action == "wait":
            await self.gate.wait()
        self.heard = await self.friend.ask(Call("nothing"))
        return self.heard


class AskingChild(Actor):
    def __init__(self, parent):
        self.parent = parent

    async def on_start(self):
        await self.parent.ask(Call("nothing"))


class Introduction:
    """Hands a Friend the ref of whoever calls it."""

    def __init__(self, actor, ref):
        self.actor, self.ref = actor, ref

    def give(self, friend):
        self.actor.friend = friend


async def spawn_pair(run, system, **options):
    friend_ref = await system.spawn(Friend, None, name="friend")
    peer = Introduction(Friend.last, friend_ref)
    caller = await system.spawn(Caller, run, peer, system, name="caller", **options)
    return caller, peer


def run_in_system(run, body):
    async def main():
        async with ActorSystem() as system:
            with anyio.fail_after(60):
                await body(system)

    run(main)


@pytest.mark.parametrize(
    ("action", "chain"),
    [
        ("ask_self", "each other: /caller."),
        ("ask_peer_to_ask_back", "each other: /friend <- /caller."),
        ("stop_self", "each other: /caller."),
        ("wait_for_own_end", "each other: /caller."),
        ("stop_system", "each other: /caller."),
        ("fill_own_mailbox", "each other: /caller."),
        ("spawn_child_that_asks", "each other: /caller/AskingChild-1 <- /caller."),
    ],
)
def test_waiting_for_oneself_is_refused_instead_of_hanging(run, action, chain):
    async def body(system):
        caller, _ = await spawn_pair(run, system, mailbox=2)
        reply = await caller.ask(Call(action))
        assert reply.startswith("deadlock: ")
        assert chain in reply

    run_in_system(run, body)


def test_a_child_cannot_wait_for_the_end_of_its_parent(run):
    async def body(system):
        caller, _ = await spawn_pair(run, system)
        await caller.ask(Call("have_child_stop_me"))
        await run.pause(10)
        assert (await caller.ask(Call("child_report"))).startswith("deadlock: ActorRef.stop()")

    run_in_system(run, body)


def test_a_task_of_the_actor_may_ask_it(run):
    async def body(system):
        caller, _ = await spawn_pair(run, system)
        assert await caller.ask(Call("ask_self_later")) == "done"
        await run.pause(10)
        assert await caller.ask(Call("report")) == "done"

    run_in_system(run, body)


def test_an_actor_that_gave_up_waiting_may_be_asked_back(run):
    class Impatient(Actor):
        def __init__(self, friend):
            self.friend = friend

        @handler
        async def call(self, message: Call) -> str:
            if message.action == "ask friend":
                await run.cancel_after(2, self.friend.ask, Call("wait"))
            return "free"

    async def body(system):
        friend = await system.spawn(Friend, None)
        Friend.last.gate = anyio.Event()
        impatient = await system.spawn(Impatient, friend)
        Friend.last.friend = impatient
        await impatient.ask(Call("ask friend"))
        assert Friend.last.heard is None
        Friend.last.gate.set()  # only now does the friend ask back
        await friend.stop()
        assert Friend.last.heard == "free"

    run_in_system(run, body)
