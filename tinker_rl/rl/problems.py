"""The groups of a run by their number: which builder rolls out group n."""

from __future__ import annotations

from collections.abc import Sequence

from tinker_rl.envs import EnvGroupBuilder, RLDataset
from tinker_rl.errors import ConfigError, DataError, TinkerRLError

__all__ = ["NumberedGroups"]


class NumberedGroups:
    """The groups of a dataset, numbered as it yields them, for one or more passes over it.

    Group n is place `n % groups_per_batch` of batch `n // groups_per_batch`. A batch shorter than
    the first leaves its last numbers without a group.

    Args:
        dataset: Batches of groups.
        num_epochs: Passes over it.
    Raises:
        ConfigError: if the dataset is empty.
    """

    def __init__(self, dataset: RLDataset, num_epochs: int = 1) -> None:
        first_batch = _asked(dataset, 0) if len(dataset) else []
        if not first_batch:
            raise ConfigError(
                f"dataset_builder: expected a dataset with a group in its first batch; got "
                f"{len(dataset)} batches, and no such group. Check its size and batch size."
            )
        self._dataset = dataset
        self._batches: dict[int, Sequence[EnvGroupBuilder]] = {}
        self.groups_per_batch = len(first_batch)
        self.num_batches = len(dataset) * num_epochs

    def builder(self, group: int) -> EnvGroupBuilder | None:
        """What makes the environments of a group; None where its batch has no such place."""
        index, place = divmod(group, self.groups_per_batch)
        batch = self._batch(index)
        return batch[place] if place < len(batch) else None

    def forget_before(self, index: int) -> None:
        """Let go of the batches below `index`, which nobody will ask for again."""
        for old in [number for number in self._batches if number < index]:
            del self._batches[old]

    def _batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        if index not in self._batches:
            batch = _asked(self._dataset, index % len(self._dataset))
            if len(batch) > self.groups_per_batch:
                raise ConfigError(
                    f"{type(self._dataset).__name__}.get_batch({index % len(self._dataset)}): "
                    f"expected at most {self.groups_per_batch} groups, as in batch 0; got "
                    f"{len(batch)}. Make batches of one size; only the last may be shorter."
                )
            self._batches[index] = batch
        return self._batches[index]


def _asked(dataset: RLDataset, index: int) -> Sequence[EnvGroupBuilder]:
    """A batch of the dataset. Raises DataError, naming the batch, for whatever it raises."""
    try:
        return list(dataset.get_batch(index))
    except TinkerRLError:
        raise
    except Exception as error:
        raise DataError(
            f"{type(dataset).__name__}.get_batch({index}): expected a sequence of EnvGroupBuilder; "
            f"got {type(error).__name__}: {error}. Mend the dataset and run the same command."
        ) from error
