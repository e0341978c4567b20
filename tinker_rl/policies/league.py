"""Past selves of a policy, as opponents. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from tinker_rl.completers import TokenCompleter
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.policies.episodes import present_episode
from tinker_rl.policies.frozen import FrozenPolicy
from tinker_rl.policies.seeds import EpisodeKey, stable_seed

__all__ = ["League", "kept_versions"]


class League:
    """Keeps some of the versions of a policy, and draws opponents among them.

    Which members there are for an episode that goes back to version v depends on the versions up to
    v alone, not on what was offered since; whom it meets depends on its key. So a run of fixed lag
    meets the same opponents again, however its episodes happened to overlap.

    Args:
        every: Versions that are multiples of this become members.
        max_size: Most members that are drawn from; `kept_versions` says which stay.
        max_lag: How many versions the newest may be ahead of the `up_to_version` of an episode:
            `max_steps_off_policy` of the run. Members of that time are kept beside the others.
        seed: Tells leagues of one run apart.
    """

    def __init__(
        self, *, every: int = 1, max_size: int = 8, max_lag: int = 0, seed: int = 0
    ) -> None:
        for name, value, least in (
            ("every", every, 1),
            ("max_size", max_size, 2),
            ("max_lag", max_lag, 0),
        ):
            if value < least:
                raise ConfigError(f"League.{name}: expected {least} or more; got {value}.")
        self._every = every
        self._max_size = max_size
        self._max_lag = max_lag
        self._seed = seed
        self._members: dict[int, FrozenPolicy] = {}
        self._newest = -1

    @property
    def options(self) -> dict[str, int]:
        """What it was made with, by name."""
        return {
            "every": self._every,
            "max_size": self._max_size,
            "max_lag": self._max_lag,
            "seed": self._seed,
        }

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that it keeps, oldest first; with `max_lag`, more than `max_size`."""
        return tuple(sorted(self._members))

    def offer(self, version: int, policy: FrozenPolicy) -> bool:
        """Take in a version, if it is its turn; older ones may have to go.

        Args:
            version: Above all that were offered before; or the newest again, as after a restart.
            policy: Acts with that version's weights, which stay in the sampler while it is kept.
        Returns:
            Whether it is a member now.
        """
        if version < self._newest:
            raise RequestError(
                f"League.offer: expected a version of {self._newest} or more; got {version}. Offer "
                "each version when it is published."
            )
        self._newest = version
        if version % self._every == 0:
            self._members[version] = policy
        self._drop_old()
        return version in self._members

    def restore(self, members: Mapping[int, FrozenPolicy]) -> None:
        """Take the place of a league that had these `versions`; it goes on as that would have."""
        self._members = dict(members)
        self._newest = max(members, default=-1)

    def members_after(self, versions: Iterable[int]) -> list[int]:
        """Which versions such a league keeps, when these were offered one after the other."""
        members: list[int] = []
        for version in versions:
            if version % self._every == 0:
                members.append(version)
            horizon = version - self._max_lag
            old = kept_versions((v for v in members if v <= horizon), self._max_size)
            members = [v for v in members if v > horizon or v in old]
        return members

    def opponent(
        self, key: EpisodeKey | None = None, up_to_version: int | None = None
    ) -> FrozenPolicy:
        """Draw a member for one episode; the same key draws the same one.

        Members of a group meet different opponents, unless they ask with the key of one of them.

        Args:
            key: The episode; None: the one that this is called from, and its version with it.
            up_to_version: Version at which the episode's group started; None: the newest.
        Raises:
            RequestError: if there is no member yet, or `up_to_version` lies back too far.
        """
        key, up_to_version = _asked_for(key, up_to_version)
        latest = self._newest if up_to_version is None else up_to_version
        if latest < self._newest - self._max_lag:
            raise RequestError(
                f"League.opponent: expected up_to_version of {self._newest - self._max_lag} or "
                f"more (max_lag={self._max_lag}); got {latest}. Give the league the run's "
                "max_steps_off_policy as max_lag."
            )
        candidates = kept_versions((v for v in self._members if v <= latest), self._max_size)
        if not candidates:
            raise RequestError(
                f"League.opponent: expected a member of version {latest} or less; got "
                f"{list(self.versions)}. Offer a version first."
            )
        rng = random.Random(stable_seed(self._seed, key.other("league").sampling_seed(0)))
        return self._members[rng.choice(candidates)]

    def completer(
        self, key: EpisodeKey | None = None, up_to_version: int | None = None
    ) -> TokenCompleter:
        """What an opponent acts with in one episode; it shares no random numbers with others."""
        key, up_to_version = _asked_for(key, up_to_version)
        return self.opponent(key, up_to_version).completer(key.other("opponent"))

    def _drop_old(self) -> None:
        """Keep the members of the oldest time that may be asked for, and what came since."""
        horizon = self._newest - self._max_lag
        old = kept_versions((v for v in self._members if v <= horizon), self._max_size)
        self._members = {
            version: policy
            for version, policy in self._members.items()
            if version > horizon or version in old
        }


def _asked_for(key: EpisodeKey | None, up_to_version: int | None) -> tuple[EpisodeKey, int | None]:
    if key is not None:
        return key, up_to_version
    episode = present_episode()
    return episode.key, episode.policy_version if up_to_version is None else up_to_version


def kept_versions(versions: Iterable[int], max_size: int) -> list[int]:
    """Which versions are members, when these came one after the other; oldest first.

    When there is one too many, that one goes whose neighbours are closest to each other, the older
    of two that are alike. The first and the newest always stay, and those between are about as far
    apart as `max_size` allows.
    """
    kept: list[int] = []
    for version in sorted(versions):
        kept.append(version)
        if len(kept) > max_size:
            gaps = [after - before for before, after in zip(kept, kept[2:], strict=False)]
            del kept[1 + gaps.index(min(gaps))]
    return kept
