import re
from functools import partial

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.envs import ArithmeticDatasetBuilder, ArithmeticEnv
from tinker_rl.envs.arithmetic_problems import ArithmeticProblem, split_of
from tinker_rl.errors import ConfigError, UnknownNameError

make_builder = partial(
    ArithmeticDatasetBuilder, model_name_for_tokenizer="tiny", renderer_name="qwen3_instruct"
)


def build(**given_settings):
    return anyio.run(make_builder(**given_settings), backend="trio")


def questions(dataset, index):
    return [
        (builder.env_thunk().get_question(), builder.env_thunk().get_reference_answer())
        for builder in dataset.get_batch(index)
    ]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), batch_size=st.integers(1, 8), index=st.integers(0, 9))
def test_training_never_asks_about_operands_of_the_test_split(seed, batch_size, index):
    train, test = build(batch_size=batch_size, group_size=2, seed=seed, n_batches=10, n_test=20)
    for dataset, split in ((train, "train"), (test, "test")):
        for question, answer in questions(dataset, index % len(dataset)):
            left, operator, right = re.match(r"(\d+)([-+*])(\d+)=\?", question).groups()
            assert split_of(int(left), int(right)) == split
            assert eval(f"{left}{operator}{right}") == int(answer)


@given(batch_size=st.integers(1, 50), n_test=st.integers(0, 60))
def test_the_test_problems_are_all_different_and_the_same_for_every_seed(batch_size, n_test):
    tests = [
        build(batch_size=batch_size, group_size=3, seed=seed, n_test=n_test)[1] for seed in (0, 1)
    ]
    if n_test == 0:
        assert tests == [None, None]
        return
    first, second = ([q for i in range(len(t)) for q in questions(t, i)] for t in tests)
    assert first == second
    assert len(set(first)) == n_test


def test_two_hundred_problems_are_held_out_by_default():
    train, test = build(batch_size=32, group_size=16)
    assert sum(len(test.get_batch(i)) for i in range(len(test))) == 200
    assert len(train) == 100
    assert {builder.num_envs for builder in train.get_batch(99)} == {16}
    assert train.get_batch(0)[0].logging_tags() == ["arithmetic"]


@pytest.mark.parametrize(
    ("answer", "correct", "in_format"),
    [
        ("\\boxed{42}", True, True),
        ("It is \\boxed{ 42 }", True, True),
        ("\\boxed{042}", True, True),
        ("\\boxed{41} \\boxed{42}", True, True),
        ("\\boxed{42} \\boxed{41}", False, True),
        ("\\boxed{17+25}", False, False),
        ("\\boxed{-42}", False, False),
        ("\\boxed{\u0664\u0662}", False, False),
        ("\\boxed{}", False, False),
        ("\\boxed{0}", False, True),
        ("\\boxed{42", False, False),
        ("42", False, False),
    ],
)
def test_only_the_result_in_the_last_box_is_right(renderer, encode, answer, correct, in_format):
    env = ArithmeticEnv(ArithmeticProblem("17+25=?", 42), renderer)
    result = anyio.run(env.step, encode(answer))
    assert result.metrics == {"format": in_format, "correct": correct}


def test_a_result_of_zero_can_be_given(renderer, encode):
    for answer, reward in [("\\boxed{0}", 1.0), ("\\boxed{}", -0.1)]:
        env = ArithmeticEnv(ArithmeticProblem("8-8=?", 0), renderer)
        assert anyio.run(env.step, encode(answer)).reward == reward


def test_the_question_asks_for_a_box(renderer, backend):
    train, _ = build(batch_size=1, group_size=1)
    env = train.get_batch(0)[0].env_thunk()
    observation, stop = anyio.run(env.initial_observation, backend=backend)
    text = renderer.tokenizer.decode(observation.to_ints())
    assert re.search(r"user\n\d+[-+*]\d+=\? Answer in \\boxed\{\}\.", text)
    assert stop == renderer.get_stop_sequences()


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"n_test": 601}, ConfigError),
        ({"n_test": -1}, ConfigError),
        ({"batch_size": 0}, ConfigError),
        ({"n_batches": 0}, ConfigError),
        ({"renderer_name": "qwen3_instrukt"}, UnknownNameError),
        ({"model_name_for_tokenizer": "tinny"}, UnknownNameError),
    ],
)
def test_settings_out_of_range_are_refused(bad, error):
    with pytest.raises(error, match=next(iter(bad.values())).__str__()):
        build(**({"batch_size": 1, "group_size": 1} | bad))
