"""Seeds that depend on what is sampled, never on when: the root of every reproducible run."""

from __future__ import annotations

import hashlib
import random

import msgspec

__all__ = ["EpisodeKey", "stable_seed"]


def stable_seed(*parts: int | str) -> int:
    """A 63-bit number that depends on the parts and their order, alike on every machine.

    Python's own `hash` differs from process to process for strings. A part is hashed with its type
    and a mark at its end, so that ("a", "b") and ("ab",), or 1 and "1", give different seeds.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(f"{type(part).__name__}:{part!r};".encode())
    return int.from_bytes(digest.digest(), "big") >> 1


class EpisodeKey(msgspec.Struct, frozen=True, kw_only=True):
    """Which episode of which run: all that its random numbers depend on."""

    run_seed: int
    purpose: str = "train"
    """What the episode is for, so that evaluations do not replay training."""
    group: int
    member: int = 0
    """Place of the episode in its group."""
    attempt: int = 0
    """0, and one more for every time the episode was played again."""

    def sampling_seed(self, turn: int, continuation: int = 0) -> int:
        """Seed of the sampler for one turn.

        Args:
            continuation: How many parts of this turn's action were sampled before, where newer
                weights go on with it.
        """
        if continuation:
            return stable_seed(self._seed("sample", turn), continuation)
        return self._seed("sample", turn)

    def other(self, role: str) -> EpisodeKey:
        """The key of another who acts in the same episode, so that nobody shares its seeds."""
        return msgspec.structs.replace(self, purpose=f"{self.purpose}/{role}")

    def env_rng(self) -> random.Random:
        """A fresh generator for the environment of this episode."""
        return random.Random(self._seed("env", 0))

    def _seed(self, use: str, turn: int) -> int:
        return stable_seed(
            self.run_seed, self.purpose, self.group, self.member, self.attempt, use, turn
        )
