"""What the shipped `tiny` model reads: sums answered in several formats, pieces of GSM8K."""

import importlib
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from transformers import PreTrainedTokenizerFast

from tinker_rl.envs.arithmetic_problems import ArithmeticProblem, format_question, sample_problem
from tinker_rl.errors import DataError
from tinker_rl.supervised.pretraining import PretrainingExample

BOXED_SHARE = 0.45
"""Share of the sums answered in the asked format: what reinforcement learning has to raise."""
OTHER_FORMATS = (
    "{answer}",
    "The answer is {answer}.",
    "= {answer}",
    "**{answer}**",
    "Answer: {answer}",
    "({answer})",
)
"""Equally frequent among the rest of the answers, which are right all the same."""
WORD_PROBLEM_SHARE = 0.10
"""Share of the examples that are pieces of GSM8K, so that other prompts are no surprise."""
BARE_QUESTION_SHARE = 0.05
"""Share of the sums that are asked without naming a format."""
MAX_QUESTION_TOKENS = 40
"""Of a word problem's question, its last tokens are kept."""
MAX_SOLUTION_TOKENS = 24
"""Of a word problem's solution, its first tokens are kept."""

_CALCULATOR_NOTE = re.compile(r"<<[^>]*>>")


class WordProblem(msgspec.Struct, frozen=True):
    """A question in words and its worked solution."""

    question: str
    solution: str
    """Without GSM8K's calculator notes, such as `<<48/2=24>>`."""


def load_word_problems(data_path: str | None) -> tuple[tuple[WordProblem, ...], str]:
    """GSM8K's training problems, and where they came from, in words.

    Looked for at `data_path` (the file or its folder), then in the folder `gsm8k` of the folder
    named by the environment variable `TINKER_RL_DATA`, then on the Hugging Face hub.

    Raises:
        DataError: if `data_path` names nothing, none of the three has it, or a line is malformed.
    """
    if data_path is not None:
        return _read_word_problems(_train_file(Path(data_path))), f"data_path={data_path}"
    folder = os.environ.get("TINKER_RL_DATA")
    if folder:
        path = Path(folder) / "gsm8k"
        return _read_word_problems(_train_file(path)), f"TINKER_RL_DATA={folder}"
    try:
        datasets: Any = importlib.import_module("datasets")
        rows: list[dict[str, str]] = list(datasets.load_dataset("openai/gsm8k", "main")["train"])
    except Exception as error:  # the hub fails in many ways: not installed, no network, no access
        raise DataError(
            "load_word_problems: expected GSM8K at data_path=, in the folder gsm8k of "
            f"TINKER_RL_DATA, or on the Hugging Face hub; got neither of the first two, and from "
            f"the hub: {error}. Pass data_path=<folder with train.jsonl>."
        ) from error
    return tuple(_word_problem(row) for row in rows), "the Hugging Face hub, openai/gsm8k"


def tokenizer_texts(word_problems: tuple[WordProblem, ...], rng: random.Random) -> Iterator[str]:
    """The texts that the vocabulary is chosen for: as the training examples, sums weigh most."""
    for _ in range(20_000):
        problem = sample_problem(rng, "train")
        yield format_question(problem.question)
        yield sample_answer(problem, rng)
    for word_problem in word_problems:
        yield word_problem.question
        yield word_problem.solution
    for role in ("system", "user", "assistant", "tool"):
        yield from [f"{role}\n"] * 1000


def sample_answer(problem: ArithmeticProblem, rng: random.Random) -> str:
    """The right answer, in the asked format for a share `BOXED_SHARE` of the draws."""
    if rng.random() < BOXED_SHARE:
        return f"\\boxed{{{problem.answer}}}"
    return rng.choice(OTHER_FORMATS).format(answer=problem.answer)


def sample_examples(
    tokenizer: PreTrainedTokenizerFast, word_problems: tuple[WordProblem, ...], rng: random.Random
) -> Iterator[PretrainingExample]:
    """Sums of the train split and pieces of word problems, without end."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    before = encode("<|im_start|>user\n")
    between = encode("<|im_end|>\n<|im_start|>assistant\n")
    end = encode("<|im_end|>")
    while True:
        if rng.random() < WORD_PROBLEM_SHARE:
            word_problem = rng.choice(word_problems)
            question = encode(word_problem.question)[-MAX_QUESTION_TOKENS:]
            answer = (encode(word_problem.solution) + end)[:MAX_SOLUTION_TOKENS]
        else:
            problem = sample_problem(rng, "train")
            asks_for_format = rng.random() >= BARE_QUESTION_SHARE
            asked = format_question(problem.question) if asks_for_format else problem.question
            question = encode(asked)
            answer = encode(sample_answer(problem, rng)) + end
        prompt = before + question + between
        yield PretrainingExample(
            tuple(prompt + answer), (False,) * len(prompt) + (True,) * len(answer)
        )


def _train_file(path: Path) -> Path:
    file = path / "train.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"load_word_problems: expected a file train.jsonl or its folder; got {path}, which "
            f"has none. Take it from openai/grade-school-math."
        )
    return file


def _read_word_problems(path: Path) -> tuple[WordProblem, ...]:
    problems: list[WordProblem] = []
    # Not splitlines(): that would also cut at separators which JSON allows inside a string.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            problems.append(_word_problem(json.loads(line)))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}, line {number}: expected a JSON object with texts `question` and "
                f"`answer`; got {line[:80]!r}. Take the file from openai/grade-school-math."
            ) from error
    if not problems:
        raise DataError(
            f"{path}: expected at least one problem; got an empty file. "
            f"Take the file from openai/grade-school-math."
        )
    return tuple(problems)


def _word_problem(row: Any) -> WordProblem:
    question, answer = row["question"], row["answer"]
    if not isinstance(question, str) or not isinstance(answer, str):
        raise TypeError("question and answer must be texts")
    return WordProblem(question, _CALCULATOR_NOTE.sub("", answer))
