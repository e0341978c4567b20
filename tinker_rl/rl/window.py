"""Which group may start, which groups make up a batch, and when slots come back: pure state.

Every schedule is a setting of this one class, and nothing in it waits:

- on-policy: `max_steps_off_policy=0`;
- streaming: `num_minibatches > 1`, each handed out as soon as it is complete;
- asynchronous: `max_steps_off_policy > 0`, by which groups may start ahead of the learner.

Groups are numbered as the dataset yields them, `groups_per_batch` to a batch. Group n starts no
sooner than version `n // groups_per_batch - max_steps_off_policy` is published, so its age is
bounded before it starts and nothing finished is ever thrown away. A version whose weights are not
to act is published all the same, so that the run goes on: groups start with the one before it, and
are older by as much.

With `straggler="mask"` a batch is made of whichever groups are finished, so a group that is long in
coming may train later than its number says, and over age. `max_masked_fraction` bounds how many:
beyond it, a batch waits for the groups for which it is the last that is not too late.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

from tinker_rl.errors import ConfigError

__all__ = ["Commit", "Lag", "Minibatch", "Straggler", "Ticket", "Window"]

R = TypeVar("R")

Lag: TypeAlias = Literal["newest", "fixed"]
Straggler: TypeAlias = Literal["wait", "mask"]


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """The right of one group to be rolled out."""

    group: int
    """Its number, for ever."""
    policy_version: int
    """The weights it starts with: batches committed when they were published."""


class Minibatch(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Finished groups that train together; the whole batch where `num_minibatches` is 1."""

    batch: int
    """The batch they belong to; it trains the version of the same number into the next."""
    index: int
    """Place in the batch, from 0."""
    is_last: bool
    """Whether the batch is complete with it, so that the optimiser steps."""
    groups: tuple[int, ...]
    """Numbers of the groups, ascending."""
    results: tuple[R, ...]
    """What `finish` was given for each, in the same order."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """That a batch was trained on, and who acts from then on."""

    version: int
    """Batches committed by then."""
    acting_version: int
    """The newest version that may act: `version`, unless the sampler did not take its weights."""


class Window(Generic[R]):
    """The groups between the dataset and the last published version.

    A group is admitted, finished and handed out once, in this order. It takes a slot from its
    admission until a version that trained on `groups_per_batch` groups more is published; there are
    `(max_steps_off_policy + 1) * groups_per_batch` slots. A group that failed or was dropped is
    finished too, with whatever result says so: its number stays in its batch.
    """

    def __init__(
        self,
        groups_per_batch: int,
        max_steps_off_policy: int,
        num_batches: int,
        *,
        first_batch: int = 0,
        num_minibatches: int = 1,
        lag: Lag = "newest",
        straggler: Straggler = "wait",
        max_masked_fraction: float = 1.0,
        oldest_version: int = 0,
        finished: Mapping[int, R] | None = None,
        trained: Collection[int] | None = None,
        mute: Collection[int] = (),
    ) -> None:
        """
        Args:
            groups_per_batch: Groups that one batch trains, 1 or more.
            max_steps_off_policy: Greatest allowed age of a group when it trains, in versions.
            num_batches: Batches of the whole run, those before `first_batch` included.
            first_batch: Batch to begin with: version `first_batch` counts as published.
            num_minibatches: Equal parts in which a batch is handed out.
            lag: Whether a group starts with the newest version, or with exactly
                `max(oldest_version, n // groups_per_batch - max_steps_off_policy)`, or the one
                before it that may act.
            straggler: Whether a batch waits for the groups of its own numbers, or takes whichever
                are finished, lowest number first (then an age may exceed the bound).
            max_masked_fraction: With "mask", the share of a batch's size in groups that may be
                left to go over age at a time. 0: a batch waits for all of them; 1: for none.
            oldest_version: Version below which nothing is known of the run.
            finished: Results of an earlier start that were not handed out.
            trained: Groups of the batches before `first_batch`; None: those of their own numbers.
            mute: Versions up to `first_batch` that may not act.
        Raises:
            ConfigError: if the numbers or the options do not fit together.
        """
        _check(groups_per_batch, max_steps_off_policy, num_batches, first_batch, num_minibatches)
        if not 0 <= max_masked_fraction <= 1:
            raise ConfigError(
                f"Window.max_masked_fraction: expected a share from 0 to 1; got "
                f"{max_masked_fraction}. Change it."
            )
        if straggler == "mask" and lag == "fixed":
            raise ConfigError(
                "Window: expected straggler='wait' with lag='fixed'; got straggler='mask', which "
                "numbers batches by completion. Choose one of the two."
            )
        self._groups_per_batch = groups_per_batch
        self._max_steps_off_policy = max_steps_off_policy
        self._num_groups = num_batches * groups_per_batch
        self._groups_per_minibatch = groups_per_batch // num_minibatches
        self._num_minibatches = num_minibatches
        self._lag: Lag = lag
        self._oldest_version = oldest_version
        self._straggler: Straggler = straggler
        self._max_masked = math.floor(max_masked_fraction * groups_per_batch)
        self._published_version = first_batch
        self._mute: set[int] = set(mute)
        """Versions that may not act, and that untrained groups would start with."""
        self._acting_version = self._version_that_acts(first_batch)
        self._num_handed_out = first_batch * num_minibatches
        self._versions: dict[int, int] = {}
        """Version of each group in flight."""
        self._num_of_version: Counter[int] = Counter()
        """Groups in flight of each version."""
        self._finished: dict[int, R] = dict(finished or {})
        """Results that were not handed out yet."""
        past = range(first_batch * groups_per_batch) if trained is None else trained
        self._done_before: set[int] = {*past, *self._finished}
        """Groups of an earlier start, from `_next_group` on."""
        self._next_group = 0
        self._pass_over_done()

    @property
    def num_slots(self) -> int:
        """Groups that may be between admission and publication."""
        return (self._max_steps_off_policy + 1) * self._groups_per_batch

    @property
    def num_slots_taken(self) -> int:
        """Groups admitted whose slot has not come back: 0 <= taken <= `num_slots`."""
        num_handed_out = self._num_handed_out * self._groups_per_minibatch
        num_training = num_handed_out - self._published_version * self._groups_per_batch
        return len(self._versions) + len(self._finished) + num_training

    @property
    def num_in_flight(self) -> int:
        """Groups admitted and not finished."""
        return len(self._versions)

    @property
    def published_version(self) -> int:
        """The newest version, whether it may act or not."""
        return self._published_version

    @property
    def acting_version(self) -> int:
        """The newest version a group may start with."""
        return self._acting_version

    @property
    def oldest_version_in_use(self) -> int:
        """The oldest version that a group in flight, or one admitted later, may ask for."""
        next_version = self._version_of(self._next_group)
        return min([*self._versions.values(), next_version, self._acting_version])

    @property
    def oldest_version_untrained(self) -> int:
        """With a fixed lag, the oldest version that a group not handed out may have started with,
        so that it could be sampled again."""
        return self._version_of(self._num_handed_out * self._groups_per_minibatch)

    @property
    def next_group(self) -> int:
        """The group that is admitted next; the number of all groups once none is left."""
        return self._next_group

    @property
    def is_exhausted(self) -> bool:
        """Whether every group was admitted."""
        return self._next_group == self._num_groups

    @property
    def is_done(self) -> bool:
        """Whether every batch was handed out."""
        return self._num_handed_out * self._groups_per_minibatch == self._num_groups

    @property
    def is_admissible(self) -> bool:
        """Whether the next group may start now."""
        return not self.is_exhausted and self._published_version >= self.version_awaited

    @property
    def version_awaited(self) -> int:
        """The version that has to be published before the next group may start."""
        return self._next_group // self._groups_per_batch - self._max_steps_off_policy

    def admit(self) -> Ticket:
        """Take a slot for the next group. Only where `is_admissible`."""
        assert self.is_admissible, "admit: no slot is free"
        group = self._next_group
        version = self._version_of(group)
        self._versions[group] = version
        self._num_of_version[version] += 1
        self._next_group += 1
        self._pass_over_done()
        return Ticket(group=group, policy_version=version)

    def finish(self, group: int, result: R) -> None:
        """Take in the result of a group in flight, whether it trains or not."""
        assert group in self._versions, f"finish: group {group} is not in flight"
        self._num_of_version[self._versions.pop(group)] -= 1
        self._finished[group] = result

    def next_minibatch(self) -> Minibatch[R] | None:
        """The next groups to train on, or None until they are finished."""
        groups = self._next_groups()
        if groups is None:
            return None
        batch, index = divmod(self._num_handed_out, self._num_minibatches)
        self._num_handed_out += 1
        return Minibatch(
            batch=batch,
            index=index,
            is_last=index == self._num_minibatches - 1,
            groups=groups,
            results=tuple(self._finished.pop(group) for group in groups),
        )

    def publish(self, commit: Commit) -> None:
        """Give back the slots of every batch below a version, all of which were handed out."""
        num_complete = self._num_handed_out // self._num_minibatches
        version, acting = commit.version, commit.acting_version
        assert self._published_version < version <= num_complete, (
            f"publish: version {version} is not between {self._published_version} (published) and "
            f"{num_complete} (handed out)"
        )
        assert acting in (self._acting_version, version), (
            f"publish: version {acting} is neither {self._acting_version} (acting) nor {version}"
        )
        if acting < version:
            self._mute.update(range(self._published_version + 1, version + 1))
        self._published_version, self._acting_version = version, acting
        oldest = self.oldest_version_untrained
        self._mute = {mute for mute in self._mute if mute > oldest}

    def _pass_over_done(self) -> None:
        while self._next_group in self._done_before:
            self._done_before.remove(self._next_group)
            self._next_group += 1

    def _version_of(self, group: int) -> int:
        if self._lag == "newest":
            return self._acting_version
        version = max(
            self._oldest_version, group // self._groups_per_batch - self._max_steps_off_policy
        )
        return self._version_that_acts(version)

    def _version_that_acts(self, version: int) -> int:
        while version in self._mute:
            version -= 1
        return version

    def _next_groups(self) -> tuple[int, ...] | None:
        if self.is_done:
            return None
        size = self._groups_per_minibatch
        if self._straggler == "mask":
            if len(self._finished) < size or self._num_expiring() > self._num_spared():
                return None
            return tuple(sorted(self._finished)[:size])
        first = self._num_handed_out * size
        groups = tuple(range(first, first + size))
        return groups if all(group in self._finished for group in groups) else None

    def _num_expiring(self) -> int:
        """Groups in flight for which the present batch is the last that is not too late."""
        batch = self._num_handed_out // self._num_minibatches
        return self._num_of_version[batch - self._max_steps_off_policy]

    def _num_spared(self) -> int:
        """How many of these may be left: those that still find a place, and those given up."""
        index = self._num_handed_out % self._num_minibatches
        return self._max_masked + (self._num_minibatches - 1 - index) * self._groups_per_minibatch


def _check(
    groups_per_batch: int,
    max_steps_off_policy: int,
    num_batches: int,
    first_batch: int,
    num_minibatches: int,
) -> None:
    rules = (
        ("groups_per_batch", groups_per_batch, "1 or more", groups_per_batch >= 1),
        ("max_steps_off_policy", max_steps_off_policy, "0 or more", max_steps_off_policy >= 0),
        ("num_batches", num_batches, "0 or more", num_batches >= 0),
        (
            "first_batch",
            first_batch,
            f"between 0 and num_batches={num_batches}",
            0 <= first_batch <= num_batches,
        ),
        (
            "num_minibatches",
            num_minibatches,
            f"a divisor of groups_per_batch={groups_per_batch}",
            num_minibatches >= 1 and groups_per_batch % num_minibatches == 0,
        ),
    )
    for name, value, rule, holds in rules:
        if not holds:
            raise ConfigError(f"Window.{name}: expected {rule}; got {value}. Change it.")
