"""In what a play of a script differs from the first one."""

from __future__ import annotations

import msgspec

from tinker_rl.testing.checks.global_random import seed_global_rngs

__all__ = ["FIRST", "Variant"]

_BUILDER = 10
"""What is added to the members that stand for the builder's calls, which are below 0."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A play under other circumstances."""

    salt: int = 0
    """Decides what `random` and numpy's global generator give; `current_rng()` does not depend on
    it."""
    salted: str = ""
    """The only method that the salt matters to; empty: all."""
    is_alike: bool = False
    """Whether all members have the random numbers of the first."""
    omitted: int | None = None
    """The member that is not shown to `compute_group_rewards`, as if its episode had failed."""

    def member(self, member: int) -> int:
        """The member whose random numbers one has; builders' calls have those of -1 and -2."""
        return 0 if self.is_alike and member >= 0 else member

    def seed_global_rngs(self, seed: int, method: str, member: int, call: int) -> None:
        """Seed the global generators for one call, in a case of that seed."""
        salt = self.salt if self.salted in ("", method) else 0
        seed_global_rngs(seed, salt, self.member(member) + _BUILDER, call)


FIRST = Variant()
"""As in the first play."""
