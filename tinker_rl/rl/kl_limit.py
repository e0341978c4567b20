"""Watches that the learner stays near the policy that is sampled from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tinker_rl.errors import ConfigError, KLLimitError

__all__ = ["KLLimit"]

METRIC = "optim/kl_sample_train_v2"
"""Half the mean square of the log ratio. Unlike `_v1` it is never negative and adds up over tokens
that drift either way, so that a small value means near and not merely balanced."""


class KLLimit:
    """Warns when the distance of sampler and learner passes one limit, and stops at another.

    A limit is passed when two steps in a row are above it: one noisy batch changes nothing,
    however far it is off. Steps that trained on nothing are left out. A value that is not a number
    is above every limit. All of the state follows from the rows of the past steps.

    Args:
        warn: Value from which on to warn, in nats of `optim/kl_sample_train_v2`; None: never.
        stop: Value from which on to stop; None: never.
    """

    def __init__(self, warn: float | None = None, stop: float | None = None) -> None:
        for name, value in (("warn", warn), ("stop", stop)):
            if value is not None and not value > 0:
                raise ConfigError(
                    f"KLLimit.{name}: expected more than 0 nats, or None for no limit; got "
                    f"{value}. Change it."
                )
        if warn is not None and stop is not None and warn > stop:
            raise ConfigError(
                f"KLLimit.warn: expected at most stop={stop}; got {warn}. Warn before the run ends."
            )
        self._warn = warn
        self._stop = stop
        self._last = 0.0
        self._has_warned = False

    def remember(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Take in the steps before a restart, oldest first, as `observe` did; says nothing."""
        for row in rows:
            value = row.get(METRIC)
            if isinstance(value, int | float):
                self._has_warned = self._is_over(self._warn, value)
                self._last = value

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Look at a step.

        Returns:
            A line to show, once for each time that the limit is passed.
        Raises:
            KLLimitError: if this step and the one before it are above `stop`.
        """
        value = metrics.get(METRIC)
        if value is None:
            return None
        last, had_warned = self._last, self._has_warned
        is_over, is_far_over = self._is_over(self._warn, value), self._is_over(self._stop, value)
        self._has_warned, self._last = is_over, value
        if is_far_over and self._stop is not None:
            raise KLLimitError(
                f"KLLimit.stop: expected {METRIC} of at most {self._stop} nats; got {value:.4g} at "
                f"step {step}, and {last:.4g} the step before. {_CAUSES}",
                step=step,
                value=value,
                limit=self._stop,
            )
        if not is_over or had_warned:
            return None
        return (
            f"step {step}: {METRIC} is {value:.4g} nats, above {self._warn} twice in a row: the "
            f"learner moves away from what is sampled. {_CAUSES}"
        )

    def _is_over(self, limit: float | None, value: float) -> bool:
        """Whether this value and the last are both above."""
        return limit is not None and not value <= limit and not self._last <= limit


_CAUSES = (
    "Lower learning_rate, num_substeps or max_steps_off_policy, or bound the ratios "
    "(loss_fn='ppo'). Where it is high from the first on-policy step on, the sampler computes "
    "other probabilities than the learner: compare their logprobs on one prompt."
)
