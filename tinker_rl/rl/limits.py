"""How long an episode may be, and how long anything may take."""

import chz

from tinker_rl.errors import ConfigError

__all__ = ["RolloutLimits"]

_BOUNDS = (
    "max_turns",
    "max_tokens_per_turn",
    "max_sampled_tokens",
    "max_trajectory_tokens",
    "max_seconds",
    "max_step_seconds",
    "cleanup_seconds",
    "max_blocking_threads",
    "max_blocking_processes",
)


@chz.chz
class RolloutLimits:
    """Bounds of an episode; one that meets a bound of the policy is truncated, and trains.

    The defaults of `max_turns` and `max_step_seconds` are there for environments that never end
    or never answer: without them one such would hold up a run for ever. None lifts a bound.
    """

    max_turns: int | None = chz.field(default=1000, doc="Most actions of an episode.")
    max_tokens_per_turn: int | None = chz.field(
        default=None, doc="Most tokens of one action; the policy's own limit holds too."
    )
    max_sampled_tokens: int | None = chz.field(
        default=None, doc="Most tokens that the policy samples in an episode, over all turns."
    )
    max_trajectory_tokens: int | None = chz.field(
        default=None,
        doc="Most tokens of an observation and the action on it together: the action is cut to "
        "the room that is left, and where there is none the context has overflowed.",
    )
    max_seconds: float | None = chz.field(
        default=None,
        doc="Longest an episode may take; also each of make_envs and compute_group_rewards.",
    )
    max_step_seconds: float | None = chz.field(
        default=600.0,
        doc="Longest one call of the environment may take: initial_observation, step, make_envs, "
        "compute_group_rewards. Passing it is the environment's failure.",
    )
    cleanup_seconds: float = chz.field(
        default=30.0, doc="Longest the clean-up of a group may take, cancelled or not."
    )
    max_blocking_threads: int = chz.field(
        default=64, doc="Calls at a time of environments that run in threads, over all episodes."
    )
    max_blocking_processes: int | None = chz.field(
        default=None,
        doc="Calls at a time of environments that run in processes; None: one a core.",
    )

    @chz.validate
    def _are_positive(self) -> None:
        for name in _BOUNDS:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(
                    f"RolloutLimits.{name}: expected more than 0, or None for no limit; got "
                    f"{value}. Change it."
                )
