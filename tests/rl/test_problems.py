import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs import EnvGroupBuilder, RLDataset
from tinker_rl.errors import ConfigError, DataError
from tinker_rl.rl.problems import NumberedGroups


class Numbered(EnvGroupBuilder):
    def __init__(self, number):
        self.number = number

    async def make_envs(self):
        return []


class Listed(RLDataset):
    """Batches of the given sizes; counts how often each is asked for."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.asked = []

    def get_batch(self, index):
        self.asked.append(index)
        return [Numbered((index, place)) for place in range(self.sizes[index])]

    def __len__(self):
        return len(self.sizes)


@given(
    size=st.integers(1, 5),
    last=st.integers(0, 5),
    num_batches=st.integers(1, 4),
    epochs=st.integers(1, 3),
)
def test_a_number_means_the_same_group_in_every_pass(size, last, num_batches, epochs):
    sizes = [size] * num_batches + [min(last, size)]
    groups = NumberedGroups(Listed(sizes), epochs)
    assert groups.groups_per_batch == size
    assert groups.num_batches == len(sizes) * epochs
    for number in range(groups.num_batches * size):
        index, place = divmod(number, size)
        builder = groups.builder(number)
        if place < sizes[index % len(sizes)]:
            assert builder is not None
            assert builder.number == (index % len(sizes), place)
        else:
            assert builder is None


def test_batches_are_asked_for_once_until_they_are_forgotten():
    dataset = Listed([2, 2, 2])
    groups = NumberedGroups(dataset)
    dataset.asked.clear()
    for number in (0, 3, 1, 2, 0):
        groups.builder(number)
    assert dataset.asked == [0, 1]
    groups.forget_before(1)
    groups.builder(2)
    groups.builder(0)
    assert dataset.asked == [0, 1, 0]


@pytest.mark.parametrize("sizes", [[], [0], [0, 2]])
def test_a_dataset_without_a_group_is_refused(sizes):
    with pytest.raises(ConfigError, match="a group in its first batch"):
        NumberedGroups(Listed(sizes))


def test_a_batch_larger_than_the_first_is_refused():
    groups = NumberedGroups(Listed([2, 3]))
    with pytest.raises(ConfigError, match=r"Listed\.get_batch\(1\): expected at most 2 .*got 3"):
        groups.builder(2)


def test_what_a_dataset_raises_names_the_batch():
    class Broken(RLDataset):
        def get_batch(self, index):
            raise KeyError("row 77")

        def __len__(self):
            return 2

    with pytest.raises(DataError, match=r"Broken.get_batch\(0\): .*got KeyError: 'row 77'"):
        NumberedGroups(Broken())
