"""Evaluations beside other work, in virtual time."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.rl.evaluations import MAX_WAITING, Evaluations


class Work:
    """Evaluates numbers, slowly; a version's client is its number."""

    def __init__(self, run, every=1, num_steps=9, seconds=1, fail_at=None):
        self.run, self.seconds, self.fail_at = run, seconds, fail_at
        self.recorded = []
        self.evaluations = Evaluations([self.twice, self.square], num_steps, every, self.record)

    async def twice(self, client):
        await self.run.pause(self.seconds)
        if client == self.fail_at:
            raise KeyError(client)
        return {"twice": 2 * client}

    async def square(self, client):
        return {"square": client * client}

    async def record(self, version, metrics):
        assert metrics == {"twice": 2 * version, "square": version**2}
        self.recorded.append(version)

    async def go(self, versions):
        async with self.evaluations.beside():
            for version in versions:
                await self.evaluations.begin(version, version)


@given(
    versions=st.lists(st.integers(0, 99), max_size=8),
    seconds=st.integers(0, 3),
    interleaving=st.random_module(),
)
def test_all_are_evaluated_in_order_before_the_block_ends(run, versions, seconds, interleaving):
    work = Work(run, seconds=seconds)
    run(work.go, versions)
    assert work.recorded == versions
    assert work.evaluations.num_owed == 0


@given(
    every=st.integers(0, 5),
    num_steps=st.integers(0, 12),
    version=st.integers(0, 12),
    is_any=st.booleans(),
)
def test_the_first_every_nth_and_the_last_are_due(every, num_steps, version, is_any):
    async def record(version, metrics):
        raise AssertionError

    evaluations = Evaluations([record] if is_any else [], num_steps, every, record)
    expected = version in {*range(0, num_steps, every or 99), num_steps}
    if version <= num_steps:
        assert evaluations.is_due(version) == (is_any and every > 0 and expected)


def test_only_a_run_far_ahead_waits(virtual):
    work = Work(virtual, seconds=10)
    handed_in_at = []

    async def go():
        async with work.evaluations.beside():
            for version in range(6):
                await work.evaluations.begin(version, version)
                handed_in_at.append(round(anyio.current_time()))

    virtual(go)
    free = MAX_WAITING + 1
    start = handed_in_at[0]
    assert [at - start for at in handed_in_at] == [0] * free + [10, 20, 30]


def test_what_an_evaluator_raises_ends_the_block(run):
    work = Work(run, fail_at=1)
    with pytest.raises(BaseExceptionGroup) as raised:
        run(work.go, range(8))
    assert raised.group_contains(KeyError)
    assert work.recorded == [0]


@given(seconds=st.integers(0, 12), interleaving=st.random_module())
def test_cancelled_what_was_not_recorded_is_still_owed(run, seconds, interleaving):
    work = Work(run, seconds=2)

    async def go():
        await run.cancel_after(seconds, work.go, range(3))

    run(go)
    assert work.recorded == list(range(len(work.recorded)))
    assert work.evaluations.num_owed >= 0
