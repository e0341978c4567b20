"""How the actor tests run async code: on both backends, and in virtual time where that exists."""

import anyio
import anyio.lowlevel
import pytest
from trio.testing import MockClock


class Runner:
    """Runs an async function on one backend; time is counted in ticks."""

    def __init__(self, backend):
        self.backend = backend

    def __call__(self, function, *args):
        """Run to the end: on trio, on a fresh clock that jumps over every sleep."""
        options = {}
        if self.backend == "trio":
            options["clock"] = MockClock(autojump_threshold=0)

        async def to_the_end():
            # What hangs fails: at once in virtual time, where nothing else can happen first.
            with anyio.fail_after(1e9 if self.backend == "trio" else 20):
                return await function(*args)

        return anyio.run(to_the_end, backend=self.backend, backend_options=options)

    async def pause(self, num_ticks):
        """A tick is a virtual second on trio, and a turn of the event loop on asyncio."""
        if self.backend == "trio":
            await anyio.sleep(num_ticks)
        else:
            for _ in range(num_ticks):
                await anyio.lowlevel.checkpoint()

    async def cancel_after(self, num_ticks, function, *args):
        """Run a function, cancelled after so many ticks; say whether that cut it short."""
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel():
                    await self.pause(num_ticks)
                    scope.cancel()

                tasks.start_soon(cancel)
                await function(*args)
                tasks.cancel_scope.cancel()
        return scope.cancelled_caught


@pytest.fixture(scope="session")
def run_virtual():
    """For what is about time alone, which only trio can make up."""
    return Runner("trio")


@pytest.fixture(scope="session", params=["trio", "asyncio"])
def run(request):
    return Runner(request.param)
