"""Environments that do not let themselves be cancelled, and builders that do not clean up well."""

import tempfile

import anyio
from anyio import get_cancelled_exc_class

from .base import Group, TwoTurns


class SwallowsEnv(TwoTurns):
    """Whatever goes wrong is worth another try."""

    async def work(self):
        try:  # noqa: SIM105
            await anyio.sleep(1)
        except BaseException:
            pass


class SwallowsGroup(Group):
    env_class = SwallowsEnv


class CatchesExceptionsEnv(TwoTurns):
    """The good twin: a cancellation is no `Exception`."""

    async def work(self):
        try:  # noqa: SIM105
            await anyio.sleep(1)
        except Exception:
            pass


class CatchesExceptionsGroup(Group):
    env_class = CatchesExceptionsEnv


class ReplacesEnv(TwoTurns):
    """Turns everything into an error of its own."""

    async def work(self):
        try:
            await anyio.sleep(1)
        except BaseException as error:
            raise RuntimeError("the tool failed") from error


class ReplacesGroup(Group):
    env_class = ReplacesEnv


class RetriesForEverEnv(TwoTurns):
    """Never gives up: cancelled, it goes round and round."""

    async def work(self):
        while True:
            try:
                await anyio.sleep(1)
                return
            except BaseException:
                continue


class RetriesForEverGroup(Group):
    env_class = RetriesForEverEnv


class RetriesInATaskEnv(TwoTurns):
    """The same in a task that it starts."""

    async def retry(self):
        while True:
            try:
                await anyio.sleep(1)
                return
            except BaseException:
                continue

    async def work(self):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.retry)


class RetriesInATaskGroup(Group):
    env_class = RetriesInATaskEnv


class WaitsShieldedEnv(TwoTurns):
    """Says goodbye, and waits for an answer that nobody gives any more."""

    async def work(self):
        answered = anyio.Event()
        try:
            await anyio.sleep(1)
            answered.set()
        finally:
            with anyio.CancelScope(shield=True):
                await answered.wait()


class WaitsShieldedGroup(Group):
    env_class = WaitsShieldedEnv


class ClosesUnshieldedEnv(TwoTurns):
    """Closes its file in `finally`, after an await that is cancelled as well."""

    async def work(self):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            await anyio.sleep(1)
        except get_cancelled_exc_class():
            await anyio.sleep(1)  # say goodbye first
            self.file.close()
            raise
        self.file.close()


class ClosesUnshieldedGroup(Group):
    env_class = ClosesUnshieldedEnv


class ClosesShieldedEnv(ClosesUnshieldedEnv):
    """The good twin."""

    async def work(self):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            await anyio.sleep(1)
        finally:
            with anyio.move_on_after(5, shield=True):
                await anyio.sleep(10)  # the goodbye takes too long: its own deadline ends it
            self.file.close()


class ClosesShieldedGroup(Group):
    env_class = ClosesShieldedEnv


class CleansUpTooEnv(TwoTurns):
    """Calls what is not its own to call."""

    async def step(self, action):
        try:
            return await super().step(action)
        except get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self.group.cleanup()
            raise


class CleansUpTwiceGroup(Group):
    env_class = CleansUpTooEnv

    async def make_envs(self):
        await super().make_envs()
        for env in self.envs:
            env.group = self
        return self.envs


class NeedsAllGroup(Group):
    """Its clean-up expects that everything was made."""

    async def make_envs(self):
        await anyio.sleep(1)
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        await anyio.sleep(1)
        return await super().make_envs()

    async def cleanup(self):
        self.file.close()


class SlowCleanupGroup(Group):
    """Cleans up for longer than it may."""

    async def cleanup(self):
        await anyio.sleep(3600)


class LastInCleanupGroup(Group):
    """Closes its file after the wait in its clean-up, which may be cut short."""

    async def make_envs(self):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        return await super().make_envs()

    async def cleanup(self):
        await anyio.sleep(1)
        self.file.close()


class FirstInCleanupGroup(LastInCleanupGroup):
    """The good twin."""

    async def cleanup(self):
        self.file.close()
        await anyio.sleep(1)


class FailsEnv(TwoTurns):
    """Is broken, cancelled or not."""

    async def work(self):
        await anyio.sleep(1)
        return {}["nothing"]


class FailsGroup(Group):
    env_class = FailsEnv
