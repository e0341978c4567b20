"""Which episode the running code belongs to, for environments that ask somebody else to act."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from tinker_rl.errors import RequestError
from tinker_rl.policies.seeds import EpisodeKey

__all__ = ["PresentEpisode", "playing", "present_episode"]


class PresentEpisode(msgspec.Struct, frozen=True):
    """An episode that is being played, or the group it belongs to."""

    key: EpisodeKey
    policy_version: int | None
    """Version that acts, or acts first; None where nobody counts."""


_present: ContextVar[PresentEpisode | None] = ContextVar("tinker_rl_episode", default=None)


def present_episode() -> PresentEpisode:
    """The episode that this code runs in.

    Raises:
        RequestError: if no episode is being played here.
    """
    episode = _present.get()
    if episode is None:
        raise RequestError(
            "present_episode: expected to be called inside an episode, from an environment; got a "
            "call outside. Give the key and the version yourself."
        )
    return episode


@contextmanager
def playing(key: EpisodeKey, policy_version: int | None) -> Generator[None]:
    """Inside, and in tasks and threads started inside, `present_episode()` is this one."""
    token = _present.set(PresentEpisode(key, policy_version))
    try:
        yield
    finally:
        _present.reset(token)
