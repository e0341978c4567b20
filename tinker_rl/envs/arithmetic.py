r"""Sums such as `17+25=?`, answered in `\boxed{}`: a task that is learned within minutes."""

from __future__ import annotations

import random
from functools import partial

import anyio.to_thread
import chz

from tinker_rl.envs.arithmetic_problems import ArithmeticProblem, format_question, sample_problem
from tinker_rl.envs.datasets import DrawnDataset, EnvThunk, ListedDataset
from tinker_rl.envs.grading import extract_boxed
from tinker_rl.envs.problem_env import ProblemEnv, load_renderer
from tinker_rl.envs.types import RLDatasetBuilder
from tinker_rl.errors import ConfigError
from tinker_rl.renderers import Message, Renderer

__all__ = ["ArithmeticDatasetBuilder", "ArithmeticEnv"]

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

    async def __call__(self) -> tuple[DrawnDataset, ListedDataset | None]:
        """Draw the problems.

        Raises:
            ConfigError: if a setting is out of range.
            UnknownNameError: if there is no such tokenizer or renderer.
        """
        if not 0 <= self.n_test <= MAX_TEST_PROBLEMS:
            raise ConfigError(
                f"ArithmeticDatasetBuilder.n_test: expected 0 to {MAX_TEST_PROBLEMS}, for the test "
                f"split has few different questions; got {self.n_test}. Ask for fewer."
            )
        renderer = await anyio.to_thread.run_sync(
            load_renderer, self.model_name_for_tokenizer, self.renderer_name
        )

        def draw(rng: random.Random) -> EnvThunk:
            return partial(ArithmeticEnv, sample_problem(rng, "train"), renderer)

        train = DrawnDataset(
            draw,
            batch_size=self.batch_size,
            group_size=self.group_size,
            n_batches=self.n_batches,
            seed=self.seed,
            name="arithmetic",
        )
        if not self.n_test:
            return train, None
        problems = [partial(ArithmeticEnv, p, renderer) for p in _test_problems(self.n_test)]
        return train, ListedDataset(problems, batch_size=self.batch_size, name="arithmetic")


def _test_problems(number: int) -> list[ArithmeticProblem]:
    """The first problems of the test split, all different, the same in every run."""
    rng = random.Random("arithmetic/test")
    problems: dict[ArithmeticProblem, None] = {}  # a set that keeps its order
    while len(problems) < number:
        problems[sample_problem(rng, "test")] = None
    return list(problems)


def _boxed_number(text: str) -> str | None:
    """The last box's content, if it is digits alone, without leading zeros."""
    boxed = (extract_boxed(text) or "").strip()
    return (boxed.lstrip("0") or "0") if boxed.isascii() and boxed.isdigit() else None
