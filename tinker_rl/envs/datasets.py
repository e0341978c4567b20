"""Data sets of problems: drawn afresh for each batch, or listed once."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from tinker_rl.envs.problem_env import ProblemGroupBuilder
from tinker_rl.envs.types import Env, EnvGroupBuilder, RLDataset
from tinker_rl.errors import ConfigError

__all__ = ["DrawnDataset", "EnvThunk", "ListedDataset", "check_at_least_one"]

EnvThunk: TypeAlias = Callable[[], Env]
"""Makes the environment of one episode, such as `partial(MyEnv, question, answer, renderer)`."""


def check_at_least_one(where: str, **settings: int) -> None:
    """Check that settings are positive. Raises ConfigError naming the first that is not."""
    for name, value in settings.items():
        if value < 1:
            raise ConfigError(
                f"{where}.{name}: expected 1 or more; got {value}. Give it a positive number."
            )


class DrawnDataset(RLDataset):
    """Problems drawn afresh: batch i depends on the name, the seed and on i, on nothing else."""

    def __init__(
        self,
        draw: Callable[[random.Random], EnvThunk],
        *,
        batch_size: int,
        group_size: int,
        n_batches: int,
        seed: int = 0,
        name: str = "problems",
    ) -> None:
        """Set what is drawn.

        Args:
            draw: Draws one problem, with no other source of randomness than its argument.
            batch_size: Groups of a batch, one problem each.
            group_size: Episodes of a group.
            n_batches: Batches to be had.
            seed: Decides the problems.
            name: Tag that metrics are averaged under.
        Raises:
            ConfigError: if a number is below 1.
        """
        where = type(self).__name__
        check_at_least_one(where, batch_size=batch_size, group_size=group_size, n_batches=n_batches)
        self.draw = draw
        self.batch_size = batch_size
        self.group_size = group_size
        self.n_batches = n_batches
        self.seed = seed
        self.name = name

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        _check_index(index, len(self))
        rng = random.Random(f"{self.name}/{self.seed}/{index}")
        thunks = [self.draw(rng) for _ in range(self.batch_size)]
        return [ProblemGroupBuilder(thunk, self.group_size, self.name) for thunk in thunks]

    def __len__(self) -> int:
        return self.n_batches


class ListedDataset(RLDataset):
    """Listed problems.

    Shuffled, for training: each epoch has an order of its own and full batches only, so that a
    few problems are left out of an epoch. In order, for tests: every problem once.
    """

    def __init__(
        self,
        problems: Sequence[EnvThunk],
        *,
        batch_size: int,
        group_size: int = 1,
        shuffle_seed: int | None = None,
        n_epochs: int = 1,
        name: str = "problems",
    ) -> None:
        """Set what is asked.

        Args:
            problems: One function for each problem, which makes its environment.
            batch_size: Groups of a batch, one problem each.
            group_size: Episodes of a group.
            shuffle_seed: Decides the order of each epoch; None: the order of the list.
            n_epochs: How often the list is gone through.
            name: Tag that metrics are averaged under.
        Raises:
            ConfigError: if a number is below 1, or the problems do not fill one batch.
        """
        where = type(self).__name__
        check_at_least_one(where, batch_size=batch_size, group_size=group_size, n_epochs=n_epochs)
        if shuffle_seed is not None and len(problems) < batch_size:
            raise ConfigError(
                f"{where}.batch_size: expected at most {len(problems)}, the number of problems; "
                f"got {batch_size}. Use smaller batches or more data."
            )
        self.problems = problems
        self.batch_size = batch_size
        self.group_size = group_size
        self.shuffle_seed = shuffle_seed
        self.n_epochs = n_epochs
        self.name = name
        batches = len(problems) / batch_size
        self.batches_per_epoch = math.ceil(batches) if shuffle_seed is None else math.floor(batches)
        self._order_of_epoch = lru_cache(maxsize=2)(self._draw_order)

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        _check_index(index, len(self))
        epoch, batch = divmod(index, self.batches_per_epoch)
        start = batch * self.batch_size
        chosen = self._order_of_epoch(epoch)[start : start + self.batch_size]
        return [ProblemGroupBuilder(self.problems[i], self.group_size, self.name) for i in chosen]

    def __len__(self) -> int:
        return self.batches_per_epoch * self.n_epochs

    def _draw_order(self, epoch: int) -> list[int]:
        order = list(range(len(self.problems)))
        if self.shuffle_seed is not None:
            random.Random(f"{self.name}/{self.shuffle_seed}/{epoch}").shuffle(order)
        return order


def _check_index(index: int, length: int) -> None:
    if not 0 <= index < length:
        raise IndexError(
            f"get_batch: expected an index from 0 to {length - 1}; got {index}. "
            "Build the data set with more batches, or stop after the last."
        )
