from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.engine.batching import lay_out

LAYOUTS = ["tree", "packed", "padded"]
lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def numbered(lengths):
    """Sequences of which no two begin alike."""
    return [np.arange(length) + 100 * index for index, length in enumerate(lengths)]


@pytest.mark.parametrize("layout", LAYOUTS)
@given(lengths=lengths, budget=st.integers(1, 300))
def test_every_sequence_stands_whole_in_one_micro_batch_that_fits_the_budget(
    layout, lengths, budget
):
    sequences = numbered(lengths)
    batches = lay_out(sequences, budget, layout)
    assert sorted(index for batch in batches for index in batch.indices) == list(
        range(len(lengths))
    )
    for batch in batches:
        assert batch.token_BT.size <= budget or len(batch.indices) == 1
        for index, place in zip(batch.indices, batch.places, strict=True):
            np.testing.assert_array_equal(batch.token_BT.ravel()[place], sequences[index])
            if batch.position_BT is None:
                assert place[0] % batch.token_BT.shape[1] == 0
            else:
                positions = batch.position_BT.ravel()[place]
                np.testing.assert_array_equal(positions, np.arange(len(place)))
        own = sum(lengths[index] for index in batch.indices)
        assert batch.computed_tokens == own
        pairs = sum(lengths[index] * (lengths[index] + 1) // 2 for index in batch.indices)
        assert batch.attended_pairs == pairs


@given(lengths=lengths, budget=st.integers(1, 300))
def test_a_tree_has_no_padding_and_no_neighbour_would_have_fitted(lengths, budget):
    batches = lay_out(numbered(lengths), budget, "tree")
    assert sum(batch.token_BT.size for batch in batches) == sum(lengths)
    for one, other in pairwise(batches):
        assert one.token_BT.size + lengths[other.indices[0]] > budget


@given(lengths=lengths, budget=st.integers(1, 300))
def test_packed_rows_are_as_wide_as_their_longest_sequence_and_take_no_more_than_padded_ones(
    lengths, budget
):
    packed, padded = (lay_out(numbered(lengths), budget, layout) for layout in LAYOUTS[1:])
    for batch in packed:
        assert batch.token_BT.shape[1] == max(lengths[index] for index in batch.indices)
    assert sum(b.token_BT.size for b in packed) <= sum(b.token_BT.size for b in padded)


@given(length=st.integers(1, 50), count=st.integers(1, 50), rows=st.integers(1, 10))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_lengths_fill_the_budget(layout, length, count, rows):
    batches = lay_out(numbered([length] * count), rows * length, layout)
    assert len(batches) == -(-count // rows)


def test_padded_rows_of_like_length_stand_together():
    batches = lay_out(numbered([3, 9, 4, 8]), 18, "padded")
    assert [batch.indices for batch in batches] == [(1, 3), (2, 0)]


def test_packed_rows_are_filled_up():
    (batch,) = lay_out(numbered([9, 5, 4, 6, 3]), 27, "packed")
    assert batch.token_BT.shape == (3, 9)
    assert batch.computed_tokens == 27
