"""What becomes of a group when one of its episodes fails."""

from __future__ import annotations

import chz

from tinker_rl.errors import ConfigError

__all__ = ["FailFast", "GroupPolicy", "MinViable", "Retry"]


@chz.chz
class GroupPolicy:
    """Base of the three; what a policy decides, and when, is in `rollouts`."""

    @property
    def num_retries(self) -> int:
        """How many times what failed is tried again."""
        return 0

    def is_viable(self, num_left: int, size: int) -> bool:
        """Whether a group of `size` counts when `num_left` of its episodes have not failed."""
        return num_left == size

    def for_linked(self) -> GroupPolicy:
        """What to do about a group whose episodes depend on each other."""
        return self


@chz.chz
class FailFast(GroupPolicy):
    """Drop the group at the first failure, and cancel its other episodes."""


@chz.chz
class Retry(GroupPolicy):
    """Play a failed episode again, in a fresh environment, under other random numbers.

    The others go on, and what they earn is kept. `make_envs` is called anew for the environment,
    under the random numbers of the first call, so that it makes the same task. A failure of the
    builder's own methods is tried again too. When the episodes depend on each other
    (`EnvGroupBuilder.linked`), the whole group is played again.
    """

    n: int = chz.field(default=1, doc="How many times at most, for each episode.")

    @property
    def num_retries(self) -> int:
        return self.n

    @chz.validate
    def _is_positive(self) -> None:
        if self.n < 1:
            raise ConfigError(
                f"Retry.n: expected 1 or more; got {self.n}. Use FailFast to try nothing again."
            )


@chz.chz
class MinViable(GroupPolicy):
    """Leave failed episodes out, and keep the group while at least `n` remain.

    Only those that remain are shown to `compute_group_rewards`. A group whose episodes depend on
    each other (`EnvGroupBuilder.linked`) is dropped at the first failure all the same.
    """

    n: int = chz.field(default=2, doc="Fewest episodes that make a group; 2 or more.")

    def is_viable(self, num_left: int, size: int) -> bool:
        return num_left == size or num_left >= self.n

    def for_linked(self) -> GroupPolicy:
        return FailFast()

    @chz.validate
    def _makes_a_group(self) -> None:
        if self.n < 2:
            raise ConfigError(
                f"MinViable.n: expected 2 or more, since advantages are centred in the group; got "
                f"{self.n}. Raise it."
            )
