r"""Sums such as `17+25=?`, answered in `\boxed{}`: a task that is learned within minutes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial

import anyio.to_thread
import chz

from tinker_rl.envs.arithmetic_problems import ArithmeticProblem, format_question, sample_problem
from tinker_rl.envs.grading import extract_boxed
from tinker_rl.envs.problem_env import ProblemEnv, ProblemGroupBuilder
from tinker_rl.envs.settings import check_at_least_one, check_index, load_renderer
from tinker_rl.envs.types import EnvGroupBuilder, RLDataset, RLDatasetBuilder
from tinker_rl.errors import ConfigError
from tinker_rl.renderers import Message, Renderer

__all__ = [
    "ArithmeticDatasetBuilder",
    "ArithmeticEnv",
    "ArithmeticTestDataset",
    "ArithmeticTrainDataset",
]

MAX_TEST_PROBLEMS = 600
"""The test split has 737 different questions."""


class ArithmeticEnv(ProblemEnv):
    """One sum. Only its result will do: a box that holds the sum itself is wrong."""

    def __init__(
        self,
        problem: ArithmeticProblem,
        renderer: Renderer,
        convo_prefix: list[Message] | None = None,
        format_coef: float = 0.1,
    ) -> None:
        super().__init__(renderer, convo_prefix, format_coef)
        self.problem = problem

    def get_question(self) -> str:
        return format_question(self.problem.question)

    def check_answer(self, sample_str: str) -> bool:
        return _boxed_number(sample_str) == self.get_reference_answer()

    def check_format(self, sample_str: str) -> bool:
        return _boxed_number(sample_str) is not None

    def get_reference_answer(self) -> str:
        return str(self.problem.answer)


class ArithmeticTrainDataset(RLDataset):
    """Fresh problems: batch i depends on the seed and on i alone."""

    def __init__(
        self, batch_size: int, group_size: int, renderer: Renderer, seed: int, n_batches: int
    ) -> None:
        self.batch_size = batch_size
        self.group_size = group_size
        self.renderer = renderer
        self.seed = seed
        self.n_batches = n_batches

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        check_index("ArithmeticTrainDataset", index, len(self))
        rng = random.Random(f"arithmetic/train/{self.seed}/{index}")
        problems = [sample_problem(rng, "train") for _ in range(self.batch_size)]
        return [_group(problem, self.group_size, self.renderer) for problem in problems]

    def __len__(self) -> int:
        return self.n_batches


class ArithmeticTestDataset(RLDataset):
    """Problems of the test split, all different, one episode each; the same whatever the seed."""

    def __init__(self, batch_size: int, renderer: Renderer, n_test: int) -> None:
        self.batch_size = batch_size
        self.renderer = renderer
        rng = random.Random("arithmetic/test")
        problems: dict[ArithmeticProblem, None] = {}  # a set that keeps its order
        while len(problems) < n_test:
            problems[sample_problem(rng, "test")] = None
        self.problems = list(problems)

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        check_index("ArithmeticTestDataset", index, len(self))
        start = index * self.batch_size
        problems = self.problems[start : start + self.batch_size]
        return [_group(problem, 1, self.renderer) for problem in problems]

    def __len__(self) -> int:
        return math.ceil(len(self.problems) / self.batch_size)


@chz.chz
class ArithmeticDatasetBuilder(RLDatasetBuilder):
    """Settings of the arithmetic task."""

    batch_size: int
    """Groups of a batch."""
    group_size: int
    """Episodes of a group."""
    model_name_for_tokenizer: str
    renderer_name: str
    seed: int = 0
    """Decides the training problems."""
    n_batches: int = 100
    """Batches of training problems."""
    n_test: int = 200
    """Held-out problems: these first ones of the test split; 0: no test data."""

    async def __call__(self) -> tuple[ArithmeticTrainDataset, ArithmeticTestDataset | None]:
        """Draw the problems.

        Raises:
            ConfigError: if a setting is out of range.
            UnknownNameError: if there is no such tokenizer or renderer.
        """
        where = "ArithmeticDatasetBuilder"
        check_at_least_one(
            where,
            batch_size=self.batch_size,
            group_size=self.group_size,
            n_batches=self.n_batches,
        )
        if not 0 <= self.n_test <= MAX_TEST_PROBLEMS:
            raise ConfigError(
                f"{where}.n_test: expected 0 to {MAX_TEST_PROBLEMS}, for the test split has few "
                f"different questions; got {self.n_test}. Ask for fewer."
            )
        renderer = await anyio.to_thread.run_sync(
            load_renderer, self.model_name_for_tokenizer, self.renderer_name
        )
        train = ArithmeticTrainDataset(
            self.batch_size, self.group_size, renderer, self.seed, self.n_batches
        )
        test = ArithmeticTestDataset(self.batch_size, renderer, self.n_test)
        return train, test if self.n_test else None


def _boxed_number(text: str) -> str | None:
    """The last box's content, if it is digits alone, without leading zeros."""
    boxed = (extract_boxed(text) or "").strip()
    return (boxed.lstrip("0") or "0") if boxed.isascii() and boxed.isdigit() else None


def _group(problem: ArithmeticProblem, size: int, renderer: Renderer) -> ProblemGroupBuilder:
    return ProblemGroupBuilder(partial(ArithmeticEnv, problem, renderer), size, "arithmetic")
