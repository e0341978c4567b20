import gc
import threading
import time
import weakref
from itertools import pairwise

import anyio
import pytest
import torch

from tinker_rl.engine.device import DeviceThread, default_device, default_dtype


@pytest.fixture
def device():
    device = DeviceThread(default_device())
    yield device
    device.close()
    assert device.join(10)


def test_calls_run_one_by_one_in_their_order_off_the_loop(device, backend):
    running, order = [], []

    def call(number):
        assert not running
        running.append(number)
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.001)
        order.append(running.pop())
        return number * 2

    async def main():
        results = {}

        async def ask(number):
            results[number] = await device.run(call, number)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(ask, number)
        return results

    assert anyio.run(main, backend=backend) == {number: 2 * number for number in range(20)}
    assert sorted(order) == list(range(20))


def test_two_that_submit_when_answered_alternate(device, backend):
    """However late the loop answers: each call goes on until the other's next one waits."""
    order, left = [], {"learner": 10, "sampler": 10}

    def call(name, other):
        left[name] -= 1
        order.append(name)
        while left[other] and device._calls.empty():
            time.sleep(0.001)

    async def main():
        async def work(name, other):
            for _ in range(10):
                await device.run(call, name, other)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, "learner", "sampler")
            tasks.start_soon(work, "sampler", "learner")

    anyio.run(main, backend=backend)
    assert len(order) == 20
    assert all(one != other for one, other in pairwise(order))


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(2), KeyboardInterrupt()])
def test_an_error_is_raised_where_it_is_awaited(device, backend, error):
    def fail():
        raise error

    async def main():
        with pytest.raises(type(error)):
            await device.run(fail)
        return await device.run(lambda: "alive")

    assert anyio.run(main, backend=backend) == "alive"


def test_a_cancelled_call_that_has_not_begun_is_dropped(device, backend):
    ran, going_on = [], threading.Event()

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(device.run, going_on.wait)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.02):
                await device.run(ran.append, 1)
            going_on.set()
        await device.run(ran.append, 2)

    anyio.run(main, backend=backend)
    assert ran == [2]


def test_the_last_result_is_not_kept(device, backend):
    class Result:
        pass

    async def main():
        result = await device.run(Result)
        await device.run(int)
        return result

    reference = weakref.ref(anyio.run(main, backend=backend))
    gc.collect()  # the loop's own cycles
    assert reference() is None


def test_half_precision_is_for_gpus():
    assert default_dtype(torch.device("cpu")) == torch.float32
    assert default_dtype(torch.device("cuda", 0)) == torch.bfloat16
