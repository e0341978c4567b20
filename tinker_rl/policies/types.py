"""A policy: who acts, and with which weights."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from tinker_rl.completers import TokenCompleter
from tinker_rl.policies.seeds import EpisodeKey

__all__ = ["Actor", "Policy", "Refresh", "completer_for"]

Refresh: TypeAlias = Literal["never", "turn", "publish"]
"""When a running episode takes up newer weights: never, at its next turn, or in the middle of an
action as soon as they are published."""


class Policy(Protocol):
    """Acts in any number of episodes, in each with a completer of its own."""

    def completer(self, key: EpisodeKey) -> TokenCompleter:
        """What acts in one episode; its random numbers depend on `key` alone."""
        ...


Actor: TypeAlias = Policy | TokenCompleter
"""Who may act in a rollout: a policy, or one completer for every episode."""


def completer_for(actor: Actor, key: EpisodeKey) -> TokenCompleter:
    """What acts in the episode of `key`."""
    return actor if isinstance(actor, TokenCompleter) else actor.completer(key)
