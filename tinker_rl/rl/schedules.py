"""When sampling and training may overlap: on-policy, streaming, asynchronous."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar, get_args

import chz
import msgspec

from tinker_rl.errors import ConfigError
from tinker_rl.policies import Refresh
from tinker_rl.rl.window import Lag, Straggler, Window

__all__ = ["AsyncConfig", "Schedule", "StreamMinibatchConfig", "schedule_problems"]

R = TypeVar("R")


@chz.chz
class AsyncConfig:
    """Sampling runs ahead of training."""

    max_steps_off_policy: int = chz.field(
        doc="Greatest age of a token when it trains, in steps; 0: on-policy."
    )
    groups_per_batch: int = chz.field(doc="Groups in a batch, as many as the dataset's.")
    lag: Lag = chz.field(
        default="newest",
        doc="newest: a group starts with the newest version; fixed: with exactly the one that "
        "max_steps_off_policy allows at the earliest, which makes a run reproducible.",
    )
    refresh: Refresh = chz.field(
        default="never",
        doc="Whether a running episode takes up newer weights: never, at its next turn, or in the "
        "middle of an action when they are published.",
    )
    straggler: Straggler = chz.field(
        default="wait",
        doc="wait: a batch waits for the groups of its own numbers; mask: it takes whichever are "
        "finished, oldest first, and tokens over age do not train.",
    )
    max_masked_fraction: float = chz.field(
        default=0.125,
        doc="With mask: the share of a batch in groups that may be left to go over age at a time; "
        "1: any number.",
    )


@chz.chz
class StreamMinibatchConfig:
    """Training starts when a part of the batch is complete."""

    groups_per_batch: int = chz.field(doc="Groups in a batch, as many as the dataset's.")
    num_minibatches: int = chz.field(
        doc="Equal parts of each substep, one forward_backward each, as in the Tinker cookbook."
    )


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """What both configs come to."""

    max_steps_off_policy: int = 0
    lag: Lag = "newest"
    refresh: Refresh = "never"
    straggler: Straggler = "wait"
    max_masked_fraction: float = 1.0
    num_minibatches: int = 1
    """Equal parts in which a batch is handed to the learner."""
    groups_per_batch: int | None = None
    """What was asked for; None: whatever the dataset gives."""

    @classmethod
    def of(
        cls,
        async_config: AsyncConfig | None,
        stream_config: StreamMinibatchConfig | None,
        num_substeps: int,
    ) -> Schedule:
        """The schedule of a run; either config may be left out."""
        size = async_config or stream_config
        schedule = cls(
            num_minibatches=stream_config.num_minibatches * num_substeps if stream_config else 1,
            groups_per_batch=size.groups_per_batch if size else None,
        )
        if async_config is None:
            return schedule
        return msgspec.structs.replace(
            schedule,
            max_steps_off_policy=async_config.max_steps_off_policy,
            lag=async_config.lag,
            refresh=async_config.refresh,
            straggler=async_config.straggler,
            max_masked_fraction=async_config.max_masked_fraction,
        )

    @property
    def is_off_policy(self) -> bool:
        """Whether tokens may be older than the weights they train."""
        return self.max_steps_off_policy > 0

    @property
    def max_token_age(self) -> int | None:
        """Age past which tokens are kept from training; None where no group gets there.

        Under `wait` the bound holds by construction. Only versions that the sampler did not take
        (`on_weight_sync_error="continue"`) stretch it, since else nothing would train at all.
        """
        return self.max_steps_off_policy if self.straggler == "mask" else None

    @property
    def keeps_old_versions(self) -> bool:
        """Whether a restart needs versions older than the one it starts at."""
        return self.lag == "fixed" and self.is_off_policy

    def check_batch_size(self, groups_per_batch: int) -> None:
        """Check that the dataset's batches are of the size that was asked for.

        Raises:
            ConfigError: if they are not.
        """
        asked = self.groups_per_batch
        if asked is not None and asked != groups_per_batch:
            raise ConfigError(
                f"groups_per_batch: expected {groups_per_batch}, the dataset's batch size; got "
                f"{asked}. Give both the same number; a dataset with fewer problems than a batch "
                "needs more problems or smaller batches."
            )

    def window(
        self,
        groups_per_batch: int,
        num_batches: int,
        *,
        first_batch: int = 0,
        oldest_version: int = 0,
        finished: Mapping[int, R] | None = None,
        trained: Collection[int] | None = None,
        mute: Collection[int] = (),
    ) -> Window[R]:
        """The state of this schedule, from its beginning or from where an earlier start was.

        Raises:
            ConfigError: if the dataset's batches are not of the size that was asked for.
        """
        self.check_batch_size(groups_per_batch)
        return Window(
            groups_per_batch,
            self.max_steps_off_policy,
            num_batches,
            first_batch=first_batch,
            oldest_version=oldest_version,
            num_minibatches=self.num_minibatches,
            lag=self.lag,
            straggler=self.straggler,
            max_masked_fraction=self.max_masked_fraction,
            finished=finished,
            trained=trained,
            mute=mute,
        )


def schedule_problems(
    async_config: AsyncConfig | None,
    stream_config: StreamMinibatchConfig | None,
    num_substeps: int,
) -> Iterator[str]:
    """What contradicts itself in the two configs, a line each."""
    if async_config is not None:
        yield from _async_problems(async_config)
    if stream_config is not None:
        yield from _stream_problems(stream_config, num_substeps)
    if async_config is None or stream_config is None:
        return
    if async_config.groups_per_batch != stream_config.groups_per_batch:
        yield (
            "groups_per_batch: expected the same in async_config and stream_minibatch_config; got "
            f"{async_config.groups_per_batch} and {stream_config.groups_per_batch}. Change one."
        )


def _async_problems(config: AsyncConfig) -> Iterator[str]:
    for name, least in (("max_steps_off_policy", 0), ("groups_per_batch", 1)):
        value = getattr(config, name)
        if value < least:
            yield f"async_config.{name}: expected {least} or more; got {value}. Change it."
    for name, kind in (("lag", Lag), ("refresh", Refresh), ("straggler", Straggler)):
        value, known = getattr(config, name), get_args(kind)
        if value not in known:
            yield (
                f"async_config.{name}: expected one of {', '.join(known)}; got {value!r}. "
                "Change it."
            )
    if not 0 <= config.max_masked_fraction <= 1:
        yield (
            "async_config.max_masked_fraction: expected a share from 0 to 1; got "
            f"{config.max_masked_fraction}. Change it."
        )
    if config.lag == "fixed" and config.straggler == "mask":
        yield (
            "async_config.straggler: expected 'wait' with lag='fixed'; got 'mask', which makes "
            "batches of whatever is finished. Choose one of the two."
        )
    if config.lag == "fixed" and config.refresh != "never":
        yield (
            f"async_config.refresh: expected 'never' with lag='fixed'; got {config.refresh!r}, "
            "which takes up weights as time will have it. Choose one of the two."
        )


def _stream_problems(config: StreamMinibatchConfig, num_substeps: int) -> Iterator[str]:
    names = ("groups_per_batch", "num_minibatches")
    too_low = [name for name in names if getattr(config, name) < 1]
    for name in too_low:
        yield (
            f"stream_minibatch_config.{name}: expected 1 or more; got {getattr(config, name)}. "
            "Change it."
        )
    if too_low:
        return
    num_parts = config.num_minibatches * max(1, num_substeps)
    if config.groups_per_batch % num_parts:
        yield (
            "stream_minibatch_config.groups_per_batch: expected a multiple of num_substeps * "
            f"num_minibatches = {num_parts}; got {config.groups_per_batch}. Change one of them."
        )
