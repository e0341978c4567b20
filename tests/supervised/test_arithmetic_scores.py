"""Grading: only a right number in the asked format counts."""

import pytest
import torch

from tinker_rl.supervised.arithmetic_scores import ArithmeticScores, arithmetic_scores, grade


def test_the_shipped_model_leaves_reinforcement_learning_something_to_raise(
    tiny_model, tiny_tokenizer
):
    scores = arithmetic_scores(tiny_model, tiny_tokenizer, num_problems=128, seed=0)
    assert 0.25 < scores.accuracy < 0.7
    assert 0.3 < scores.format_share < 0.7
    assert scores.accuracy_given_format > 0.8


def test_greedy_answers_of_the_shipped_model_are_mostly_right(tiny_model, tiny_tokenizer):
    scores = arithmetic_scores(tiny_model, tiny_tokenizer, num_problems=128, seed=0, greedy=True)
    assert scores.num_in_format == 128
    assert scores.accuracy > 0.8


def test_equal_seeds_give_equal_scores_and_leave_the_generator_alone(tiny_model, tiny_tokenizer):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    scores = [
        arithmetic_scores(tiny_model, tiny_tokenizer, num_problems=16, seed=seed) for seed in (1, 1)
    ]
    assert scores[0] == scores[1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("answer", "in_format", "right"),
    [
        ("\\boxed{4}", True, True),
        ("It is \\boxed{4}.", True, True),
        ("\\boxed{5}", True, False),
        ("4", False, False),
        ("\\boxed{}", False, False),
        ("\\boxed{4", False, False),
        ("**4**", False, False),
        ("", False, False),
    ],
)
def test_only_a_right_number_in_the_box_counts(answer, in_format, right):
    assert grade(answer, 4) == (in_format, right)


def test_shares_are_of_the_right_whole():
    scores = ArithmeticScores(num_problems=10, num_in_format=4, num_right=3)
    assert (scores.accuracy, scores.format_share) == (0.3, 0.4)
    assert scores.accuracy_given_format == 0.75
    assert ArithmeticScores(num_problems=1, num_in_format=0, num_right=0).accuracy_given_format == 0
