"""Which call of a completer it is: what faults and random numbers of completers depend on."""

from __future__ import annotations

import random

import msgspec

from tinker_rl.errors import RequestError
from tinker_rl.policies import EpisodeKey, PresentEpisode, present_episode, stable_seed

__all__ = ["CallPlaces", "Place"]


class Place(msgspec.Struct, frozen=True):
    """Which call of a completer."""

    episode: EpisodeKey | None
    """The episode that asks; None outside of a rollout."""
    turn: int
    """How many calls the episode made before: 0 at first."""

    def rng(self, seed: int) -> random.Random:
        """A generator that depends on the seed and this place alone."""
        key = self.episode
        parts = () if key is None else (key.run_seed, key.group, key.member, key.attempt)
        return random.Random(stable_seed("completer", seed, *parts, self.turn))


class CallPlaces:
    """Counts the calls of a completer, by episode; one that is played again begins anew."""

    def __init__(self) -> None:
        self._counts: dict[EpisodeKey | None, tuple[PresentEpisode | None, int]] = {}

    def next(self) -> Place:
        """The place of the call that is made now."""
        episode = _episode_or_none()
        key = None if episode is None else episode.key
        counted, turn = self._counts.get(key, (episode, 0))
        if counted is not episode:
            turn = 0
        self._counts[key] = episode, turn + 1
        return Place(key, turn)


def _episode_or_none() -> PresentEpisode | None:
    try:
        return present_episode()
    except RequestError:  # outside of a rollout
        return None
