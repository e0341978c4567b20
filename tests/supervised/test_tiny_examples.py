"""The texts that `tiny` is trained on: right answers, the stated mixture, GSM8K read with care."""

import itertools
import json
import random
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs.arithmetic_problems import ArithmeticProblem, sample_problem, split_of
from tinker_rl.errors import DataError
from tinker_rl.supervised.tiny_examples import (
    BOXED_SHARE,
    MAX_QUESTION_TOKENS,
    MAX_SOLUTION_TOKENS,
    WORD_PROBLEM_SHARE,
    WordProblem,
    load_word_problems,
    sample_answer,
    sample_examples,
)

WORD_PROBLEMS = (
    WordProblem("Ann has 3 pens and buys 4 more. How many has she?", "3 + 4 = 7 pens.\n#### 7"),
    WordProblem("How old is Bo? " * 40, "He is nine. " * 40),
)


@given(seed=st.integers(0, 2**32), answer=st.integers(0, 10**6))
def test_every_format_holds_the_right_number_and_no_other(seed, answer):
    text = sample_answer(ArithmeticProblem("?", answer), random.Random(seed))
    assert re.findall(r"\d+", text) == [str(answer)]


def test_the_asked_format_has_its_share():
    rng = random.Random(0)
    answers = [sample_answer(sample_problem(rng, "train"), rng) for _ in range(10_000)]
    boxed = sum(answer.startswith("\\boxed{") for answer in answers) / len(answers)
    assert boxed == pytest.approx(BOXED_SHARE, abs=0.02)


def test_examples_are_chats_whose_answers_alone_train(tiny_tokenizer):
    drawn = sample_examples(tiny_tokenizer, WORD_PROBLEMS, random.Random(0))
    num_words = 0
    for example in itertools.islice(drawn, 2000):
        text = tiny_tokenizer.decode(example.tokens)
        trained = tiny_tokenizer.decode(
            [t for t, trains in zip(example.tokens, example.loss_mask, strict=True) if trains]
        )
        assert text.startswith("<|im_start|>user\n")
        prompt, answer = text.split("<|im_end|>\n<|im_start|>assistant\n")
        assert answer == trained
        sum_asked = re.match(r"<\|im_start\|>user\n(\d+)([-+*])(\d+)=\?", prompt)
        if sum_asked is None:
            num_words += 1
            assert sum(example.loss_mask) <= MAX_SOLUTION_TOKENS
            assert len(example.tokens) <= MAX_QUESTION_TOKENS + MAX_SOLUTION_TOKENS + 10
        else:
            assert split_of(int(sum_asked[1]), int(sum_asked[3])) == "train"
            assert answer.endswith("<|im_end|>")
    assert num_words / 2000 == pytest.approx(WORD_PROBLEM_SHARE, abs=0.03)


def test_equal_seeds_give_equal_examples(tiny_tokenizer):
    runs = [
        list(itertools.islice(sample_examples(tiny_tokenizer, WORD_PROBLEMS, rng), 50))
        for rng in (random.Random(4), random.Random(4))
    ]
    assert runs[0] == runs[1]


def write_rows(folder, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(text, encoding="utf-8")


ROW = {"question": "2 and 2?", "answer": "It is <<2+2=4>>4.\n#### 4"}


def test_a_file_its_folder_and_the_environment_variable_all_work(tmp_path, monkeypatch):
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    write_rows(folder, [ROW, ROW])
    expected = (WordProblem("2 and 2?", "It is 4.\n#### 4"),) * 2
    monkeypatch.setenv("TINKER_RL_DATA", str(tmp_path))
    for data_path, source in [
        (str(folder), "data_path"),
        (str(folder / "train.jsonl"), "data_path"),
        (None, "TINKER_RL_DATA"),
    ]:
        problems, found_at = load_word_problems(data_path)
        assert problems == expected
        assert source in found_at


@given(lines=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_text_survives_the_file(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("gsm8k")
    write_rows(folder, [{"question": text, "answer": text.replace("<<", "")} for text in lines])
    problems, _ = load_word_problems(str(folder))
    assert [problem.question for problem in problems] == lines


@pytest.mark.parametrize(
    "bad", ["{", "[]", "3", '{"question": "?"}', '{"question": 1, "answer": 2}']
)
def test_a_malformed_line_is_named(tmp_path, bad):
    write_rows(tmp_path, [ROW, ROW])
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(bad)
    with pytest.raises(DataError, match=r"train\.jsonl, line 3: expected .*; got .*\. Take"):
        load_word_problems(str(tmp_path))


def test_a_path_that_names_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected a file train\.jsonl or its folder; got"):
        load_word_problems(str(tmp_path / "nowhere"))


def test_an_empty_file_is_refused(tmp_path):
    write_rows(tmp_path, [])
    with pytest.raises(DataError, match="at least one problem"):
        load_word_problems(str(tmp_path))


def test_without_any_source_the_error_names_all_three(monkeypatch):
    monkeypatch.delenv("TINKER_RL_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)  # as on a machine without it
    with pytest.raises(DataError, match=r"data_path=.*TINKER_RL_DATA.*Hugging Face hub"):
        load_word_problems(None)
