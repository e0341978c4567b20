import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.engine.prefix_tree import build_tree, plan_trees, shared_lengths

# Few tokens, so that sequences often begin alike.
sequences = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=7).map(np.array), min_size=1, max_size=9
)


def prefixes(sequences):
    return {tuple(s[:end]) for s in sequences for end in range(1, len(s) + 1)}


@given(sequences=sequences, budget=st.integers(1, 40))
def test_every_sequence_is_in_one_tree_of_as_many_tokens_as_there_are_prefixes(sequences, budget):
    trees = plan_trees(sequences, budget)
    assert sorted(index for tree in trees for index in tree) == list(range(len(sequences)))
    for indices in trees:
        own = [sequences[index] for index in indices]
        size = len(build_tree(own).token_U)
        assert size == len(prefixes(own))
        assert size <= budget or len(indices) == 1


@given(sequences=sequences)
def test_paths_lead_through_the_tokens_of_each_sequence(sequences):
    (order,) = plan_trees(sequences, 10**6)
    own = [sequences[index] for index in order]
    tree = build_tree(own)
    for sequence, path in zip(own, tree.paths, strict=True):
        np.testing.assert_array_equal(tree.token_U[path], sequence)
        np.testing.assert_array_equal(tree.position_U[path], np.arange(len(sequence)))


@given(sequences=sequences)
def test_a_segment_and_its_ancestors_are_the_path_to_each_of_its_tokens(sequences):
    (order,) = plan_trees(sequences, 10**6)
    tree = build_tree([sequences[index] for index in order])
    edges = [0, *(segment.stop for segment in tree.segments)]
    assert [segment.start for segment in tree.segments] == edges[:-1]
    assert edges[-1] == len(tree.token_U)
    assert len(tree.segments) < 2 * len(sequences)
    for path in tree.paths:
        at = next(i for i, s in enumerate(tree.segments) if s.start <= path[-1] < s.stop)
        above = [tree.segments[i] for i in tree.segments[at].ancestors]
        found = [token for s in above for token in range(s.start, s.stop)]
        found += range(tree.segments[at].start, path[-1] + 1)
        assert found == path.tolist()


@given(sequences=sequences)
def test_shared_lengths_are_those_of_neighbours(sequences):
    for index, shared in enumerate(shared_lengths(sequences)):
        one, other = sequences[index - 1], sequences[index]
        assert index or shared == 0
        if index:
            assert list(one[:shared]) == list(other[:shared])
            assert shared in (len(one), len(other)) or one[shared] != other[shared]


def test_an_episode_whose_turns_extend_each_other_is_one_segment():
    turns = [np.arange(length) for length in (30, 10, 20)]
    (order,) = plan_trees(turns, 100)
    tree = build_tree([turns[index] for index in order])
    assert [(s.start, s.stop, s.ancestors) for s in tree.segments] == [(0, 30, ())]


def test_answers_to_one_prompt_branch_off_it():
    answers = [np.array([7, 7, 7, answer, answer]) for answer in (2, 1)]
    (order,) = plan_trees(answers, 100)
    assert order == [1, 0]
    tree = build_tree([answers[index] for index in order])
    spans = [(s.start, s.stop, s.ancestors) for s in tree.segments]
    assert spans == [(0, 3, ()), (3, 5, (0,)), (5, 7, (0,))]
    assert tree.position_U.tolist() == [0, 1, 2, 3, 4, 3, 4]
