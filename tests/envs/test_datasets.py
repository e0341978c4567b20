import random
from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs import DrawnDataset, ListedDataset
from tinker_rl.errors import ConfigError

sizes = st.integers(1, 7)


def problem(number):
    return number


def draw(rng):
    return partial(problem, rng.random())


def asked(dataset, index):
    """The problems of a batch: here each is a number, in the place of an environment."""
    return [builder.env_thunk() for builder in dataset.get_batch(index)]


@given(seed=st.integers(), size=sizes, n_batches=sizes, schedule=st.random_module())
def test_a_drawn_batch_depends_on_the_seed_and_its_number_alone(seed, size, n_batches, schedule):
    make = partial(DrawnDataset, draw, batch_size=size, group_size=2, n_batches=n_batches)
    forward, backward = make(seed=seed), make(seed=seed)
    there = [asked(forward, i) for i in range(n_batches)]
    random.seed(0)
    back = [asked(backward, i) for i in reversed(range(n_batches))]
    assert there == back[::-1]
    assert there[0] != asked(make(seed=seed + 1), 0)
    assert len({number for batch in there for number in batch}) == size * n_batches
    longer = DrawnDataset(draw, batch_size=size, group_size=3, n_batches=9, seed=seed)
    assert asked(longer, 0) == there[0]


def test_the_problems_of_a_seed_are_the_same_for_ever():
    dataset = DrawnDataset(draw, batch_size=2, group_size=1, n_batches=1, seed=7, name="x")
    rng = random.Random("x/7/0")
    assert asked(dataset, 0) == [rng.random(), rng.random()]


@given(number=st.integers(0, 40), size=sizes)
def test_in_order_every_problem_is_asked_once(number, size):
    dataset = ListedDataset([partial(problem, n) for n in range(number)], batch_size=size)
    batches = [asked(dataset, i) for i in range(len(dataset))]
    assert [n for batch in batches for n in batch] == list(range(number))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(builder.num_envs == 1 for builder in dataset.get_batch(0)) if number else True


@given(number=st.integers(1, 40), size=sizes, epochs=st.integers(1, 3), seed=st.integers())
def test_shuffled_batches_are_full_and_no_problem_comes_twice_in_an_epoch(
    number, size, epochs, seed
):
    problems = [partial(problem, n) for n in range(number)]
    make = partial(ListedDataset, problems, batch_size=size, group_size=4, n_epochs=epochs)
    if number < size:
        with pytest.raises(ConfigError, match=f"at most {number}"):
            make(shuffle_seed=seed)
        return
    dataset = make(shuffle_seed=seed)
    per_epoch = number // size
    assert len(dataset) == per_epoch * epochs
    for epoch in range(epochs):
        batches = [asked(dataset, epoch * per_epoch + i) for i in range(per_epoch)]
        assert {len(batch) for batch in batches} == {size}
        assert set(Counter(n for batch in batches for n in batch).values()) == {1}
    again = make(shuffle_seed=seed)
    backward = [asked(again, i) for i in reversed(range(len(again)))]
    assert backward[::-1] == [asked(dataset, i) for i in range(len(dataset))]


def test_epochs_and_seeds_have_orders_of_their_own():
    problems = [partial(problem, n) for n in range(50)]
    make = partial(ListedDataset, problems, batch_size=50, n_epochs=2)
    first, second = asked(make(shuffle_seed=1), 0), asked(make(shuffle_seed=1), 1)
    assert first != second
    assert first != asked(make(shuffle_seed=2), 0)
    assert sorted(first) == sorted(second) == list(range(50))


@pytest.mark.parametrize("index", [-1, 3, 100])
def test_a_batch_that_is_not_there_is_an_error(index):
    drawn = DrawnDataset(draw, batch_size=1, group_size=1, n_batches=3)
    listed = ListedDataset([partial(problem, n) for n in range(3)], batch_size=1)
    for dataset in (drawn, listed):
        with pytest.raises(IndexError, match=f"0 to 2; got {index}"):
            dataset.get_batch(index)


def test_a_dataset_can_be_gone_through_in_a_loop():
    dataset = DrawnDataset(draw, batch_size=2, group_size=1, n_batches=3)
    assert len([dataset.get_batch(i) for i in range(len(dataset))]) == 3


@pytest.mark.parametrize("setting", ["batch_size", "group_size", "n_batches"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_below_one_are_refused(setting, value):
    settings = {"batch_size": 1, "group_size": 1, "n_batches": 1} | {setting: value}
    with pytest.raises(ConfigError, match=rf"DrawnDataset\.{setting}: .* got {value}"):
        DrawnDataset(draw, **settings)
