from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.engine.batching import plan_microbatches


@given(lengths=st.lists(st.integers(1, 300), max_size=60), budget=st.integers(1, 1000))
def test_every_datum_is_in_one_micro_batch_that_fits_the_budget(lengths, budget):
    batches = plan_microbatches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= budget or len(batch) == 1
    # None could be left out: two neighbours never fit into one.
    for one, _ in pairwise(batches):
        width = max(lengths[index] for index in one)
        assert (len(one) + 1) * width > budget


@given(length=st.integers(1, 50), count=st.integers(1, 50), rows=st.integers(1, 10))
def test_equal_lengths_fill_the_budget(length, count, rows):
    batches = plan_microbatches([length] * count, rows * length)
    assert len(batches) == -(-count // rows)


def test_rows_of_like_length_stand_together():
    assert plan_microbatches([3, 9, 4, 8], 18) == [[1, 3], [2, 0]]
