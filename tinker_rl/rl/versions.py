"""The versions of a run's weights: which act, which stay on the disk, which are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinker_rl.policies import League, LivePolicy
from tinker_rl.rl.evaluations import Evaluations
from tinker_rl.rl.past import Past
from tinker_rl.rl.publisher import Publication, Publisher
from tinker_rl.rl.saved_versions import SavedVersions
from tinker_rl.rl.window import Window

__all__ = ["Versions"]


class Versions:
    """Publishes each version, and keeps what a restart may need of the older ones.

    Args:
        policy: What acts.
        publisher: Publishes the new versions.
        saved: Those on the disk.
        evaluations: Measures those that are due.
        league: Takes in some as opponents, if there is one.
        past: What earlier starts did.
        window: Knows which versions groups to come start with.
        keeps_old: Whether they start with older ones than the present.
        say: Shows a line to the user.
    """

    def __init__(
        self,
        policy: LivePolicy,
        publisher: Publisher,
        saved: SavedVersions,
        evaluations: Evaluations,
        league: League | None,
        past: Past,
        window: Window[Any],
        *,
        keeps_old: bool,
        say: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._publisher = publisher
        self._saved = saved
        self._evaluations = evaluations
        self._league = league
        self._past = past
        self._window = window
        self._keeps_old = keeps_old
        self._say = say
        self._evaluated = set(past.evaluations)
        self._owes_evaluation = False
        """Whether one is due, and waits for a version that is published."""

    # --------------------------------------------------------------------------- coming back

    def needed(self, checkpoint_batch: int) -> set[int]:
        """Versions that groups to come start with or play against, or that owe an evaluation.

        Args:
            checkpoint_batch: Version that the model has; it passes through those above.
        """
        past, present = self._past, self._past.num_committed
        needed = {present, *self._league_members()}
        if self._keeps_old:
            oldest = self._window.oldest_version_in_use
            needed |= set(range(oldest, present)) - past.mute
        owed = {v for v in range(present) if self._evaluations.is_due(v)} - self._evaluated
        can_be_had = {*self._saved.versions, *range(checkpoint_batch, present)} - past.mute
        return needed | (owed & can_be_had)

    async def load(self, version: int) -> None:
        """Let a version of an earlier start act again, from the disk.

        Raises:
            CheckpointError: if it is not there, or is damaged.
        """
        self._policy.adopt(version, await self._saved.load(version))
        await self.evaluate(version)

    async def publish_again(self, version: int, weight_hash: str | None) -> None:
        """Publish what an earlier start committed, and say so if it has other bits now.

        Args:
            weight_hash: What the journal says of it; None where it says nothing.
        """
        await self._policy.publish(version)
        found = self.weight_hash(version)
        if found and weight_hash and found != weight_hash:
            self._say(
                f"version {version} came out of the journal with other bits than it was committed "
                f"with ({found[:12]}, not {weight_hash[:12]}): this device does not compute alike "
                "twice. The run goes on with the new ones"
            )
        await self.evaluate(version)

    def come_back(self) -> None:
        """All that is needed is published: go on from there."""
        if self._league is not None:
            self._league.restore({v: self._policy.pinned(v) for v in self._league_members()})
        self.retire()

    def _league_members(self) -> list[int]:
        if self._league is None:
            return []
        published = (v for v in range(self._past.num_committed + 1) if v not in self._past.mute)
        return self._league.members_after(published)

    # ------------------------------------------------------------------------------ going on

    async def publish(self, version: int, *, is_last: bool) -> Publication:
        """Publish a new version; see `Publisher.publish`."""
        publication = await self._publisher.publish(version, is_last=is_last)
        if self._league is not None and self._policy.policy_version == version:
            self._league.offer(version, self._policy.pinned(version))
        return publication

    def weight_hash(self, version: int) -> str | None:
        """Of the weights of the newest version; None if it is another, or was not hashed."""
        if self._policy.policy_version != version:
            return None
        sync = self._policy.pinned(version).sampling_client.weight_sync
        return sync.content_hash if sync else None

    async def keep(self, version: int) -> str | None:
        """Save a version that acts, if a restart may need it; its path, if it was saved now."""
        is_acting = self._policy.policy_version == version
        if not is_acting or version in self._saved.versions or not self._must_keep(version):
            return None
        return await self._saved.save(version)

    async def delete_unneeded(self) -> None:
        """Free the disk of versions that no restart needs."""
        await self._saved.keep_only({v for v in self._saved.versions if self._must_keep(v)})

    def retire(self) -> None:
        """Let the sampler free the versions that nobody starts with any more."""
        self._policy.retire(self._window.oldest_version_in_use)

    async def evaluate(self, version: int) -> None:
        """Begin the evaluation of a version where one is due.

        One that could not be published is not evaluated: the next one is, in its place.
        """
        if version in self._evaluated:
            return
        self._owes_evaluation |= self._evaluations.is_due(version)
        if self._owes_evaluation and self._policy.policy_version == version:
            self._owes_evaluation = False
            await self._evaluations.begin(version, self._policy.pinned(version).sampling_client)

    def evaluated(self, version: int) -> None:
        """The evaluation of a version is written down."""
        self._evaluated.add(version)

    def _must_keep(self, version: int) -> bool:
        if self._keeps_old and version >= self._window.oldest_version_untrained:
            return True
        if self._league is not None and version in self._league.versions:
            return True
        return self._evaluations.is_due(version) and version not in self._evaluated
