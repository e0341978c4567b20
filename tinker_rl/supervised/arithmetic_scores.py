"""How well a causal language model answers sums that it never saw, by transformers' `generate`."""

import random
import re
from typing import Any

import msgspec
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tinker_rl.envs.arithmetic_problems import ArithmeticProblem, format_question, sample_problem

MAX_ANSWER_TOKENS = 16
_BOXED_NUMBER = re.compile(r"\\boxed\{(\d+)\}")


class ArithmeticScores(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of graded answers, and the shares they make."""

    num_problems: int
    """Problems asked, one answer each."""
    num_in_format: int
    """Answers with a number in `\\boxed{}`, right or wrong."""
    num_right: int
    """Answers whose number in `\\boxed{}` is the result; no other format counts."""

    @property
    def accuracy(self) -> float:
        """Share of all answers that are right."""
        return self.num_right / self.num_problems

    @property
    def format_share(self) -> float:
        """Share of all answers that are in the asked format."""
        return self.num_in_format / self.num_problems

    @property
    def accuracy_given_format(self) -> float:
        """Share of the answers in the asked format that are right; 0 if there are none."""
        return self.num_right / self.num_in_format if self.num_in_format else 0.0


def arithmetic_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    num_problems: int,
    seed: int,
    greedy: bool = False,
    batch_size: int = 128,
) -> ArithmeticScores:
    """Ask problems of the test split, answered at temperature 1 unless `greedy`, and grade them.

    Draws from torch's global generator, and leaves it as it was.
    """
    rng = random.Random(seed)
    problems = [sample_problem(rng, "test") for _ in range(num_problems)]
    num_in_format = num_right = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, num_problems, batch_size):
            batch = problems[start : start + batch_size]
            answers = _sample_answers(model, tokenizer, batch, greedy=greedy)
            for problem, answer in zip(batch, answers, strict=True):
                in_format, right = grade(answer, problem.answer)
                num_in_format += in_format
                num_right += right
    return ArithmeticScores(
        num_problems=num_problems, num_in_format=num_in_format, num_right=num_right
    )


def grade(answer: str, result: int) -> tuple[bool, bool]:
    """Whether `answer` has a number in `\\boxed{}`, and whether that number is `result`."""
    boxed = _BOXED_NUMBER.search(answer)
    return boxed is not None, boxed is not None and int(boxed[1]) == result


def _sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    problems: list[ArithmeticProblem],
    *,
    greedy: bool,
) -> list[str]:
    prompts = [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": format_question(problem.question)}],
                add_generation_prompt=True,
                tokenize=False,
            )
        )
        for problem in problems
    ]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    generate: Any = model.generate  # from a mixin whose types pyright cannot follow
    tokens_BT = generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=MAX_ANSWER_TOKENS,
        do_sample=not greedy,
        # top_k=0: transformers would otherwise sample from the 50 most likely tokens only.
        **({} if greedy else {"temperature": 1.0, "top_k": 0, "top_p": 1.0}),
    )
    answers_BT = tokens_BT[:, inputs["input_ids"].shape[1] :]
    return tokenizer.batch_decode(answers_BT, skip_special_tokens=True)
