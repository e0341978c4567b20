"""How long an episode may be."""

import chz

from tinker_rl.errors import ConfigError

__all__ = ["RolloutLimits"]


@chz.chz
class RolloutLimits:
    """Bounds of an episode; an episode that meets one is truncated, and trains."""

    max_turns: int | None = chz.field(default=None, doc="Most actions of an episode.")
    max_sampled_tokens: int | None = chz.field(
        default=None, doc="Most tokens that the policy samples in an episode, over all turns."
    )
    max_seconds: float | None = chz.field(
        default=None,
        doc="Longest an episode may take; also each of make_envs and compute_group_rewards.",
    )
    cleanup_seconds: float = chz.field(
        default=30.0, doc="Longest the clean-up of a group may take, cancelled or not."
    )

    @chz.validate
    def _are_positive(self) -> None:
        for name in ("max_turns", "max_sampled_tokens", "max_seconds", "cleanup_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(
                    f"RolloutLimits.{name}: expected more than 0, or None for no limit; got "
                    f"{value}. Change it."
                )
