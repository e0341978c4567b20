"""Environments that lose what they opened when they are cancelled at the wrong moment."""

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import sniffio
import trio

from .base import Group, TwoTurns


class FileEnv(TwoTurns):
    """Closes its file at the end, and nowhere else."""

    async def open(self):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        await anyio.sleep(1)

    async def close(self):
        self.file.close()


class FileGroup(Group):
    env_class = FileEnv


class ClosingFileGroup(FileGroup):
    """The good twin: the builder closes what its environments opened."""

    async def cleanup(self):
        for env in self.envs:
            if hasattr(env, "file"):
                env.file.close()


class SocketEnv(TwoTurns):
    async def open(self):
        self.pair = socket.socketpair()
        await anyio.sleep(1)

    async def close(self):
        for end in self.pair:
            end.close()


class SocketGroup(Group):
    env_class = SocketEnv


class ThrownAwayEnv(TwoTurns):
    """Its file is a local variable: Python closes it, some time."""

    async def work(self):
        file = tempfile.TemporaryFile()  # noqa: SIM115
        await anyio.sleep(1)
        file.close()


class ThrownAwayGroup(Group):
    env_class = ThrownAwayEnv


class ThreadEnv(TwoTurns):
    """Stops its thread after the work, unless the work is cancelled."""

    stop = threading.Event()  # of all, so that a test can end what was leaked

    async def work(self):
        type(self).stop = threading.Event()
        thread = threading.Thread(target=self.stop.wait, name="leaky watcher", daemon=True)
        thread.start()
        await anyio.sleep(1)
        self.stop.set()
        thread.join()


class ThreadGroup(Group):
    env_class = ThreadEnv


def started():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


class ProcessEnv(TwoTurns):
    processes = []  # noqa: RUF012

    async def work(self):
        process = started()
        self.processes.append(process)
        await anyio.sleep(1)
        process.kill()
        process.wait()


class ProcessGroup(Group):
    env_class = ProcessEnv


class UnawaitedEnv(TwoTurns):
    """Kills its process in any case, and waits for it in none but one."""

    processes = []  # noqa: RUF012

    async def work(self):
        process = started()
        self.processes.append(process)
        try:
            await anyio.sleep(1)
            process.kill()
            process.wait()
        finally:
            process.kill()


class UnawaitedGroup(Group):
    env_class = UnawaitedEnv


class TaskEnv(TwoTurns):
    """Starts a task that belongs to nobody."""

    async def work(self):
        if sniffio.current_async_library() == "asyncio":
            task = asyncio.create_task(self.tick())
            await anyio.sleep(1)
            task.cancel()
        else:
            scope = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self.tick_within, scope)
            await anyio.sleep(1)
            scope.cancel()

    async def tick_within(self, scope):
        with scope:
            await self.tick()

    async def tick(self):
        await anyio.sleep_forever()


class TaskGroup(Group):
    env_class = TaskEnv


class LibraryTaskEnv(TwoTurns):
    """Starts a task in which no code of its own runs."""

    async def work(self):
        if sniffio.current_async_library() == "asyncio":
            event = asyncio.Event()
            self.task = asyncio.create_task(event.wait())
        else:
            event = trio.Event()
            trio.lowlevel.spawn_system_task(event.wait)
        await anyio.sleep(1)
        event.set()


class LibraryTaskGroup(Group):
    env_class = LibraryTaskEnv


class GeneratorEnv(TwoTurns):
    """Leaves a generator in the middle; its `finally` runs at some later time."""

    async def ticks(self):
        try:
            yield 1
        finally:
            await anyio.lowlevel.checkpoint()

    async def work(self):
        async for _ in self.ticks():
            await anyio.sleep(1)


class GeneratorGroup(Group):
    env_class = GeneratorEnv


class LockEnv(TwoTurns):
    """Holds a lock that all share, and lets it go only where nothing goes wrong."""

    async def work(self):
        await self.group.lock.acquire()
        await anyio.sleep(1)
        self.group.lock.release()


class LockGroup(Group):
    env_class = LockEnv

    async def make_envs(self):
        self.lock = anyio.Lock()
        await super().make_envs()
        for env in self.envs:
            env.group = self
        return self.envs


class WithLockEnv(LockEnv):
    """The good twin."""

    async def work(self):
        async with self.group.lock:
            await anyio.sleep(1)


class WithLockGroup(LockGroup):
    env_class = WithLockEnv


SLOTS = threading.Semaphore(1000)


class SlotEnv(TwoTurns):
    """Takes a slot of a semaphore that is a global of the module."""

    async def work(self):
        SLOTS.acquire()
        await anyio.sleep(1)
        SLOTS.release()


class SlotGroup(Group):
    env_class = SlotEnv


class Pool:
    """Something with a count that only its owner knows."""

    in_use = 0

    @asynccontextmanager
    async def careless(self):
        Pool.in_use += 1
        yield
        Pool.in_use -= 1


class PoolEnv(TwoTurns):
    async def work(self):
        async with Pool().careless():
            await anyio.sleep(1)


class PoolGroup(Group):
    env_class = PoolEnv
