import random

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs import current_rng, seeded_rng
from tinker_rl.errors import RequestError


def test_outside_an_episode_there_is_no_generator():
    with pytest.raises(RequestError, match="outside"):
        current_rng()


@given(seed=st.integers(), schedule=st.random_module())
def test_an_episode_played_again_draws_the_same_numbers(seed, schedule):
    def play():
        with seeded_rng(seed):
            return [current_rng().random() for _ in range(3)]

    assert play() == play()
    with seeded_rng(random.Random(seed)) as rng:
        assert current_rng() is rng


def test_episodes_inside_each_other_do_not_mix():
    with seeded_rng(1) as outer:
        with seeded_rng(2) as inner:
            assert current_rng() is inner
        assert current_rng() is outer
        with pytest.raises(ZeroDivisionError), seeded_rng(3):
            _ = 1 / 0
        assert current_rng() is outer
    with pytest.raises(RequestError):
        current_rng()


@given(schedule=st.random_module(), seeds=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_episodes_at_the_same_time_have_generators_of_their_own(schedule, seeds):
    drawn = {}

    async def play(place, seed):
        with seeded_rng(seed):
            numbers = []
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
                numbers.append(current_rng().random())
            drawn[place] = numbers

    async def play_all():
        async with anyio.create_task_group() as tg:
            for place, seed in enumerate(seeds):
                tg.start_soon(play, place, seed)

    anyio.run(play_all, backend="trio")
    for place, seed in enumerate(seeds):
        rng = random.Random(seed)
        assert drawn[place] == [rng.random() for _ in range(3)]


def test_a_thread_that_the_environment_starts_has_its_generator(backend):
    async def play():
        with seeded_rng(7) as rng:
            assert await anyio.to_thread.run_sync(current_rng) is rng

    anyio.run(play, backend=backend)
