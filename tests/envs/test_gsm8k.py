import json
from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.data import DATA_VARIABLE
from tinker_rl.envs import Gsm8kDatasetBuilder, Gsm8kEnv, grade_answer
from tinker_rl.envs.gsm8k import load_gsm8k
from tinker_rl.envs.numerals import parse_number
from tinker_rl.errors import ConfigError, DataError

make_builder = partial(
    Gsm8kDatasetBuilder,
    batch_size=2,
    group_size=3,
    model_name_for_tokenizer="tiny",
    renderer_name="qwen3_instruct",
)


def build(**settings):
    return anyio.run(make_builder(**settings), backend="trio")


@pytest.fixture
def folder(tmp_path):
    """A folder in the shape of the real one."""
    for split, number in (("train", 5), ("test", 3)):
        rows = [{"question": f"{split} {n}?", "answer": f"So.\n#### {n}"} for n in range(number)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def asked(dataset):
    return [b.env_thunk().question for i in range(len(dataset)) for b in dataset.get_batch(i)]


def test_every_reference_of_the_real_data_can_be_read_and_grades_itself(shared_data):
    folder = shared_data / "gsm8k"
    rows = [row for split in ("train", "test") for row in load_gsm8k(split, str(folder)).rows]
    assert len(rows) == 8792
    for row in rows:
        value = parse_number(row.reference)
        written = row.answer.rpartition("####")[2].strip()
        assert value == parse_number(written)
        assert grade_answer(written, row.reference)
        assert not grade_answer(str(value + 1), row.reference)


def test_the_real_data_is_asked_in_the_models_chat_format(shared_data, backend, encode, renderer):
    messages = []
    train, test = build(data_path=str(shared_data / "gsm8k"), log=messages.append)
    assert len(train) == 7473 // 2
    assert len(test) == 660
    assert [message.split(" from ")[0] for message in messages] == [
        "gsm8k train: 7473 rows",
        "gsm8k test: 1319 rows",
    ]
    env = test.get_batch(0)[0].env_thunk()
    observation, _ = anyio.run(env.initial_observation, backend=backend)
    text = renderer.tokenizer.decode(observation.to_ints())
    assert "Janet\u2019s ducks lay 16 eggs per day." in text
    assert text.endswith("in \\boxed{}.<|im_end|>\n<|im_start|>assistant\n")
    result = anyio.run(env.step, encode("She makes \\boxed{\\$18.00}"), backend=backend)
    assert (result.reward, result.logs["reference"]) == (1.0, "18")


@given(value=st.integers(-(10**6), 10**6), wrong=st.integers(1, 100))
def test_the_answer_is_graded_as_a_number(renderer, encode, value, wrong):
    def step(answer):
        return anyio.run(Gsm8kEnv("?", str(value), renderer).step, encode(answer), backend="trio")

    sign = "-" if value < 0 else ""
    for answer in (f"{value:,}", f"{sign}\\${abs(value)}.00", f"{value} eggs", f"{value}0/10"):
        assert step(f"\\boxed{{{answer}}}").metrics == {"format": 1.0, "correct": 1.0}
    assert step(f"\\boxed{{{value + wrong}}}").metrics == {"format": 1.0, "correct": 0.0}


def test_an_answer_that_cannot_be_read_is_wrong_and_one_without_a_box_out_of_format(
    renderer, encode
):
    for answer, reward in [("\\boxed{9^{9^9}}", 0.0), ("\\boxed{eggs}", 0.0), ("18", -0.1)]:
        env = Gsm8kEnv("?", "18", renderer)
        assert anyio.run(env.step, encode(answer)).reward == reward


@given(answer=st.text(st.characters(codec="utf-8")))
def test_whatever_the_policy_writes_is_graded(renderer, encode, answer):
    env = Gsm8kEnv("?", "18", renderer)
    result = anyio.run(env.step, encode(f"\\boxed{{{answer}}}"), backend="trio")
    assert result.reward in (1.0, 0.9, 0.0, -0.1)


def test_training_shuffles_by_the_seed_and_the_test_set_does_not(folder):
    train, test = build(data_path=str(folder), batch_size=5, n_epochs=2)
    assert sorted(asked(train)) == sorted(f"train {n}?" for n in range(5) for _ in range(2))
    assert asked(build(data_path=str(folder), batch_size=5, n_epochs=2)[0]) == asked(train)
    assert asked(test) == [f"test {n}?" for n in range(3)]
    orders = {tuple(asked(build(data_path=str(folder), batch_size=5, seed=s)[0])) for s in range(9)}
    assert len(orders) > 1
    assert {builder.num_envs for builder in train.get_batch(0)} == {3}
    assert {builder.num_envs for builder in test.get_batch(0)} == {1}


def test_a_worked_example_comes_first_unless_it_is_not_wanted(folder, backend, renderer):
    lengths = {}
    for prefix in ("standard", "none"):
        _, test = build(data_path=str(folder), convo_prefix=prefix)
        observation, _ = anyio.run(
            test.get_batch(0)[0].env_thunk().initial_observation, backend=backend
        )
        text = renderer.tokenizer.decode(observation.to_ints())
        lengths[prefix] = text.count("<|im_start|>user")
    assert lengths == {"standard": 2, "none": 1}


def test_the_worked_example_is_right(renderer):
    _, answer = Gsm8kEnv.standard_prefix()
    env = Gsm8kEnv("?", str(4 * 6 - 15), renderer)
    assert env.check_answer(answer["content"])
    assert env.check_format(answer["content"])


def test_the_test_set_may_be_shorter_or_left_out(folder):
    assert asked(build(data_path=str(folder), n_test=2)[1]) == ["test 0?", "test 1?"]
    assert build(data_path=str(folder), n_test=0)[1] is None


def test_one_file_is_training_data_alone(folder):
    train, test = build(data_path=str(folder / "test.jsonl"), batch_size=3)
    assert sorted(asked(train)) == ["test 0?", "test 1?", "test 2?"]
    assert test is None


def test_the_data_is_found_in_the_folder_of_the_environment(folder, tmp_path, monkeypatch):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "gsm8k").symlink_to(folder)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "sets"))
    messages = []
    _, test = build(log=messages.append)
    assert asked(test) == ["test 0?", "test 1?", "test 2?"]
    assert all(f"from {DATA_VARIABLE}: {tmp_path}" in message for message in messages)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"question": "How many?", "answer": "5"}, "a number; got '5'"),
        ({"question": "How many?", "answer": "#### five"}, "a number; got '#### five'"),
        ({"question": " ", "answer": "#### 5"}, "an empty one"),
        ({"question": "How many?"}, "required field `answer`"),
        ({"question": 5, "answer": "#### 5"}, "Expected `str`, got `int`"),
    ],
)
def test_a_malformed_row_is_an_error_with_its_line(folder, row, complaint):
    path = folder / "train.jsonl"
    path.write_text(path.read_text() + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"train\.jsonl, line 6: ") as caught:
        build(data_path=str(folder))
    assert complaint in str(caught.value)


def test_settings_out_of_range_are_refused(folder):
    with pytest.raises(ConfigError, match=r"n_test: .* got -1"):
        build(data_path=str(folder), n_test=-1)
    with pytest.raises(ConfigError, match="batch_size: expected at most 5"):
        build(data_path=str(folder), batch_size=6)
    with pytest.raises(ConfigError, match=r"n_epochs: .* got 0"):
        build(data_path=str(folder), n_epochs=0)
