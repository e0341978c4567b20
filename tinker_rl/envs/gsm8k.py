r"""GSM8K: word problems of grade-school mathematics, answered with a number in `\boxed{}`.

Source: Cobbe et al., "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import anyio.to_thread
import chz
import msgspec

from tinker_rl.data import HubSource, LoadedRows, Split, load_rows
from tinker_rl.envs.grading import extract_boxed, grade_answer, gsm8k_final_answer
from tinker_rl.envs.problem_env import ProblemEnv, ProblemGroupBuilder
from tinker_rl.envs.settings import check_at_least_one, check_index, load_renderer
from tinker_rl.envs.types import EnvGroupBuilder, RLDataset, RLDatasetBuilder
from tinker_rl.errors import ConfigError
from tinker_rl.renderers import Message, Renderer

__all__ = [
    "Gsm8kDataset",
    "Gsm8kDatasetBuilder",
    "Gsm8kEnv",
    "Gsm8kRow",
    "load_gsm8k",
]

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


class Gsm8kDataset(RLDataset):
    """Batches of groups, one problem a group.

    Training batches are full: rows that are left over at the end of an epoch are not asked in
    it. Each epoch has an order of its own, from the seed. Test data keeps all rows, in order.
    """

    def __init__(
        self,
        rows: Sequence[Gsm8kRow],
        batch_size: int,
        group_size: int,
        renderer: Renderer,
        convo_prefix: list[Message] | None = None,
        split: Split = "train",
        seed: int = 0,
        n_epochs: int = 1,
    ) -> None:
        if split == "train" and len(rows) < batch_size:
            raise ConfigError(
                f"Gsm8kDataset.batch_size: expected at most {len(rows)}, the number of rows; got "
                f"{batch_size}. Use smaller batches or more data."
            )
        self.rows = rows
        self.batch_size = batch_size
        self.group_size = group_size
        self.renderer = renderer
        self.convo_prefix = convo_prefix
        self.split = split
        self.n_epochs = n_epochs
        whole = len(rows) // batch_size
        self.batches_per_epoch = whole if split == "train" else math.ceil(len(rows) / batch_size)
        self._order: Callable[[int], Sequence[int]] = lru_cache(maxsize=2)(
            partial(_order_of_epoch, len(rows), split, seed)
        )

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        check_index("Gsm8kDataset", index, len(self))
        epoch, batch = divmod(index, self.batches_per_epoch)
        start = batch * self.batch_size
        order = self._order(epoch)[start : start + self.batch_size]
        return [self._group(self.rows[i]) for i in order]

    def __len__(self) -> int:
        return self.batches_per_epoch * self.n_epochs

    def _group(self, row: Gsm8kRow) -> ProblemGroupBuilder:
        thunk = partial(
            Gsm8kEnv, row.question, row.reference, self.renderer, convo_prefix=self.convo_prefix
        )
        return ProblemGroupBuilder(thunk, self.group_size, "gsm8k")


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

    async def __call__(self) -> tuple[Gsm8kDataset, Gsm8kDataset | None]:
        """Load the problems.

        Raises:
            ConfigError: if a setting is out of range.
            DataError: if the data is missing or malformed.
            UnknownNameError: if there is no such tokenizer or renderer.
        """
        check_at_least_one(
            "Gsm8kDatasetBuilder",
            batch_size=self.batch_size,
            group_size=self.group_size,
            n_epochs=self.n_epochs,
        )
        if self.n_test is not None and self.n_test < 0:
            raise ConfigError(
                f"Gsm8kDatasetBuilder.n_test: expected 0 or more, or None for all; got "
                f"{self.n_test}. Use 0 for no test data."
            )
        return await anyio.to_thread.run_sync(self._load)

    def _load(self) -> tuple[Gsm8kDataset, Gsm8kDataset | None]:
        renderer = load_renderer(self.model_name_for_tokenizer, self.renderer_name)
        prefix = Gsm8kEnv.standard_prefix() if self.convo_prefix == "standard" else None
        train = Gsm8kDataset(
            self._rows("train"),
            self.batch_size,
            self.group_size,
            renderer,
            prefix,
            "train",
            self.seed,
            self.n_epochs,
        )
        if self.n_test == 0 or (self.data_path is not None and Path(self.data_path).is_file()):
            return train, None
        rows = self._rows("test")[: self.n_test]
        return train, Gsm8kDataset(rows, self.batch_size, 1, renderer, prefix, "test")

    def _rows(self, split: Split) -> list[Gsm8kRow]:
        loaded = load_gsm8k(split, self.data_path)
        if self.log is not None:
            self.log(f"gsm8k {split}: {len(loaded.rows)} rows from {loaded.source}")
        return loaded.rows


def load_gsm8k(split: Split, data_path: str | None = None) -> LoadedRows[Gsm8kRow]:
    """The rows of a split of GSM8K, and where they came from; see `tinker_rl.data.load_rows`."""
    return load_rows("gsm8k", Gsm8kRow, split, data_path=data_path, hub=HUB)


def _order_of_epoch(num_rows: int, split: Split, seed: int, epoch: int) -> Sequence[int]:
    order = list(range(num_rows))
    if split == "train":
        random.Random(f"gsm8k/{seed}/{epoch}").shuffle(order)
    return order
