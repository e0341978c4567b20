import time

import anyio
import pytest

from tinker_rl.rl.loop_watch import LoopWatch


def test_code_that_blocks_is_measured_and_told_of_once(backend):
    said = []
    watch = LoopWatch(said.append)

    async def go():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.serve)
            await anyio.sleep(0.01)
            time.sleep(1.5)  # noqa: ASYNC251 - that is what is to be noticed
            await anyio.sleep(0.3)
            tasks.cancel_scope.cancel()

    anyio.run(go, backend=backend)
    assert watch.longest() >= 1.0
    assert watch.longest() == 0
    watch.woke_late(5.0)
    (line,) = said
    assert "runs_in" in line


@pytest.mark.parametrize("seconds", [-0.1, 0.0, 0.9])
def test_a_loop_that_is_merely_busy_is_no_reason_to_speak(seconds):
    said = []
    LoopWatch(said.append).woke_late(seconds)
    assert not said
