r"""GSM8K: word problems of grade-school mathematics, answered with a number in `\boxed{}`.

Source: Cobbe et al., "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import anyio.to_thread
import chz
import msgspec

from tinker_rl.data import HubSource, LoadedRows, Split, load_rows
from tinker_rl.envs.datasets import EnvThunk, ListedDataset
from tinker_rl.envs.grading import extract_boxed, grade_answer, gsm8k_final_answer
from tinker_rl.envs.problem_env import ProblemEnv, load_renderer
from tinker_rl.envs.types import RLDatasetBuilder
from tinker_rl.errors import ConfigError
from tinker_rl.renderers import Message, Renderer

__all__ = ["Gsm8kDatasetBuilder", "Gsm8kEnv", "Gsm8kRow", "load_gsm8k"]

QUESTION_SUFFIX = " Give the answer as a number without its unit, in \\boxed{}."
HUB = HubSource("openai/gsm8k", "main")


class Gsm8kRow(msgspec.Struct, frozen=True):
    """A row of the data set's own files."""

    question: str
    answer: str
    """A worked solution; the final answer follows `####`."""

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError("expected a question; got an empty one")
        gsm8k_final_answer(self.answer)  # raises if there is none

    @property
    def reference(self) -> str:
        """The final answer."""
        return gsm8k_final_answer(self.answer)


class Gsm8kEnv(ProblemEnv):
    """One word problem."""

    def __init__(
        self,
        question: str,
        reference: str,
        renderer: Renderer,
        convo_prefix: list[Message] | None = None,
        format_coef: float = 0.1,
    ) -> None:
        super().__init__(renderer, convo_prefix, format_coef)
        self.question = question
        self.reference = reference

    @staticmethod
    def standard_prefix() -> list[Message]:
        """A worked example, from which a base model sees the format."""
        question = (
            "A baker fills 4 trays with 6 rolls each and sells 15 of the rolls. "
            "How many rolls are left?"
        )
        solution = (
            "The trays hold 4 * 6 = 24 rolls. After the sale 24 - 15 = 9 rolls are left. \\boxed{9}"
        )
        return [
            Message(role="user", content=question + QUESTION_SUFFIX),
            Message(role="assistant", content=solution),
        ]

    def get_question(self) -> str:
        return self.question + QUESTION_SUFFIX

    def check_answer(self, sample_str: str) -> bool:
        boxed = extract_boxed(sample_str)
        return boxed is not None and grade_answer(boxed, self.reference)

    def check_format(self, sample_str: str) -> bool:
        return extract_boxed(sample_str) is not None

    def get_reference_answer(self) -> str:
        return self.reference


@chz.chz
class Gsm8kDatasetBuilder(RLDatasetBuilder):
    """Settings of the GSM8K task."""

    batch_size: int
    """Groups of a batch."""
    group_size: int
    """Episodes of a group."""
    model_name_for_tokenizer: str
    renderer_name: str
    seed: int = 0
    """Decides the order of the training problems."""
    data_path: str | None = None
    """A folder with train.jsonl and test.jsonl, or one file, which is then all training data;
    None: the other sources of `tinker_rl.data`."""
    convo_prefix: Literal["standard", "none"] = "standard"
    """`standard`: a worked example before each question; `none`: the question alone."""
    n_epochs: int = 1
    """How often each training problem is asked."""
    n_test: int | None = None
    """Held-out problems: the first ones of the test split; None: all; 0: no test data."""
    log: Callable[[str], object] | None = None
    """Told where each split came from; None: nobody."""

    async def __call__(self) -> tuple[ListedDataset, ListedDataset | None]:
        """Load the problems.

        Raises:
            ConfigError: if a setting is out of range.
            DataError: if the data is missing or malformed.
            UnknownNameError: if there is no such tokenizer or renderer.
        """
        if self.n_test is not None and self.n_test < 0:
            raise ConfigError(
                f"Gsm8kDatasetBuilder.n_test: expected 0 or more, or None for all; got "
                f"{self.n_test}. Use 0 for no test data."
            )
        return await anyio.to_thread.run_sync(self._load)

    def _load(self) -> tuple[ListedDataset, ListedDataset | None]:
        renderer = load_renderer(self.model_name_for_tokenizer, self.renderer_name)
        prefix = Gsm8kEnv.standard_prefix() if self.convo_prefix == "standard" else None
        train = ListedDataset(
            self._problems("train", renderer, prefix),
            batch_size=self.batch_size,
            group_size=self.group_size,
            shuffle_seed=self.seed,
            n_epochs=self.n_epochs,
            name="gsm8k",
        )
        if self.n_test == 0 or (self.data_path is not None and Path(self.data_path).is_file()):
            return train, None
        problems = self._problems("test", renderer, prefix)[: self.n_test]
        return train, ListedDataset(problems, batch_size=self.batch_size, name="gsm8k")

    def _problems(
        self, split: Split, renderer: Renderer, prefix: list[Message] | None
    ) -> list[EnvThunk]:
        loaded = load_gsm8k(split, self.data_path)
        if self.log is not None:
            self.log(f"gsm8k {split}: {len(loaded.rows)} rows from {loaded.source}")
        return [
            partial(Gsm8kEnv, row.question, row.reference, renderer, convo_prefix=prefix)
            for row in loaded.rows
        ]


def load_gsm8k(split: Split, data_path: str | None = None) -> LoadedRows[Gsm8kRow]:
    """The rows of a split of GSM8K, and where they came from; see `tinker_rl.data.load_rows`."""
    return load_rows("gsm8k", Gsm8kRow, split, data_path=data_path, hub=HUB)
