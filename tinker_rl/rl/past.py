"""What earlier starts of a run left behind: read from its journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tinker_rl.rl.journal import CommitRecord, GroupRecord, Journal

__all__ = ["Past"]


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands."""

    first_version: int
    """Version that the journal begins with; groups of batches before it are not in it."""
    commits: tuple[CommitRecord, ...]
    """Of the steps from `first_version` on, one each, in order."""
    evaluations: Mapping[int, Mapping[str, float]]
    """What was measured, by version."""
    paths: Mapping[int, str]
    """Where versions were saved to sample from."""

    @classmethod
    def of(cls, journal: Journal, checkpoint_batch: int) -> Past:
        """What the journal says; where it says nothing, the checkpoint that was loaded does."""
        starts = [s for s in journal.starts if s.sampler_path]
        made = [c for c in journal.commits if c.sampler_path]
        return cls(
            first_version=journal.starts[0].version if journal.starts else checkpoint_batch,
            commits=journal.commits,
            evaluations={record.version: record.metrics for record in journal.evaluations},
            paths={start.version: str(start.sampler_path) for start in starts}
            | {commit.step + 1: str(commit.sampler_path) for commit in made},
        )

    @property
    def num_committed(self) -> int:
        """Batches trained on."""
        return self.commits[-1].step + 1 if self.commits else self.first_version

    @property
    def mute(self) -> frozenset[int]:
        """Versions before the present one that the sampler did not take."""
        versions = {c.step + 1 for c in self.commits if c.acting_version <= c.step}
        return frozenset(versions - {self.num_committed})

    def trained(self, groups_per_batch: int) -> frozenset[int]:
        """Groups that were trained on, by their number."""
        before = range(self.first_version * groups_per_batch)
        return frozenset(before).union(*(commit.groups for commit in self.commits))

    def waiting(self, journal: Journal) -> dict[int, GroupRecord]:
        """Groups that were finished, and not trained on."""
        numbers = journal.finished_groups() - journal.trained_groups()
        return {number: journal.read_group(number) for number in sorted(numbers)}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl` from `first_version` on, by step."""
        rows = [dict(commit.metrics) for commit in self.commits]
        rows += [{"step": version, **metrics} for version, metrics in self.evaluations.items()]
        return sorted(rows, key=lambda row: (row["step"], "progress/batch" in row))
