"""Learning from which of two answers is preferred."""

from tinker_rl.preference.dpo import dpo_loss, interleave_pairs

__all__ = ["dpo_loss", "interleave_pairs"]
