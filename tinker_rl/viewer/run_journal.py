"""The groups and episodes of a run, kept up with its journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tinker_rl.errors import DataError, JournalError
from tinker_rl.rl.failure_counts import describe_failure
from tinker_rl.rl.journal import (
    CommitRecord,
    FailureRecord,
    GroupHead,
    StartRecord,
    TrainedMember,
)
from tinker_rl.rl.journal.codec import Head
from tinker_rl.rl.outcomes import DroppedGroup, RolledOutGroup
from tinker_rl.viewer.chunks import chunk, episodes_of
from tinker_rl.viewer.episodes import EpisodeTable, rows_of
from tinker_rl.viewer.followed import FollowedJournal
from tinker_rl.viewer.plain import text
from tinker_rl.viewer.ratios import max_ratios
from tinker_rl.viewer.tokens import TokenText

__all__ = ["RunJournal"]

TOKENS_PER_CHUNK = 20_000
"""Sampled tokens in a chunk, about, unless one group has more."""
MOST_GROUPS_PER_CHUNK = 16
MOST_PROBLEMS = 5


class RunJournal:
    """Rows of all episodes in memory; their tokens on the disk, read chunk by chunk.

    Args:
        path: The journal, which may not be there yet.
        tokens: What tokens say.
    """

    def __init__(self, path: Path, tokens: TokenText) -> None:
        self.path = path
        self._tokens = tokens
        self.generation = 0
        """Grows when what was known is void: the file was replaced, or the run rewound."""
        self.revision = 0
        """Grows when anything changes."""
        self._journal: FollowedJournal | None = None
        self._problem: str | None = None
        """What was wrong with the file at the last look."""
        self._unopened: str | None = None
        """Why the file could not be opened."""
        self._forget()

    def _forget(self) -> None:
        self.table = EpisodeTable()
        self._revised: dict[int, int] = {}
        """Of each group that has rows, the revision of its last change."""
        self._failures: defaultdict[int, list[FailureRecord]] = defaultdict(list)
        self._groups_per_chunk: int | None = None
        self._unreadable: dict[int, str] = {}
        self.last_step = -1
        """The last step that the file tells of, whether it holds or not; -1 for none."""
        self._trained = lru_cache(maxsize=2)(self._read_trained)

    # ------------------------------------------------------------------------------ following

    def poll(self) -> bool:
        """Take in what was added; says whether anything was."""
        if self._journal is not None and self._journal.is_replaced():
            self._start_anew()
        is_changed = self._follow()
        problem = self._journal.problem if self._journal else None
        if problem != self._problem:
            # What looks like damage may be a file that was cut and written on since.
            self._start_anew()
            is_changed = self._follow()
            self._problem = self._journal.problem if self._journal else None
        return is_changed

    def _start_anew(self) -> None:
        self.close()
        self._forget()
        self.generation += 1
        self.revision += 1

    def _follow(self) -> bool:
        if self._journal is None:
            self._unopened = None
            if not self.path.exists():
                return False
            if self.path.is_dir():
                self._unopened = f"{self.path}: expected a file; got a folder."
                return False
            try:
                self._journal = FollowedJournal.read(self.path)
            except DataError as error:  # it may have gone meanwhile: the next look tries again
                self._unopened = str(error)
                return False
        known = self._journal.committed_steps()
        news = self._journal.follow()
        if not news:
            return False
        self.revision += 1
        # Commits that the page knows of are void; those that came and went since do not matter.
        is_rewound = any(
            isinstance(head, StartRecord) and any(step >= head.version for step in known)
            for head in news
        )
        self.generation += is_rewound
        self._take(news, is_rewound)
        return True

    def close(self) -> None:
        """Give back the file."""
        if self._journal is not None:
            self._journal.close()
        self._journal = None

    def _take(self, news: Sequence[Head], is_rewound: bool) -> None:
        changed: set[int] = set(self.groups if is_rewound else ())
        for head in news:
            if isinstance(head, GroupHead):
                self._set_chunk_size(head)
                changed.add(head.group)
            elif isinstance(head, FailureRecord):
                self._failures[head.group].append(head)
                changed.add(head.group)
            elif isinstance(head, CommitRecord):
                changed.update(head.groups)
                self.last_step = max(self.last_step, head.step)
            elif isinstance(head, StartRecord):
                self.last_step = max(self.last_step, head.version - 1)
        self._trained.cache_clear()
        # By step, so that what the learner said of each is read once.
        for group in sorted(changed, key=lambda group: (self.step_of(group) or 0, group)):
            self._update(group)

    def _update(self, group: int) -> None:
        try:
            outcome = self._outcome(group)
            if outcome is None:
                return
            self._revised[group] = self.revision
            if isinstance(outcome, RolledOutGroup):
                trained = self._trained_members(group)
                ratios = max_ratios(outcome.group.trajectories_G, trained) if trained else None
                self.table.put(group, rows_of(outcome, self._tokens), ratios)
            else:
                self.table.put(group, rows_of(outcome, self._tokens))
        except (JournalError, DataError) as error:
            self._unreadable[group] = str(error)

    def _set_chunk_size(self, head: GroupHead) -> None:
        if self._groups_per_chunk is not None or head.kind != "rolled_out":
            return
        size = TOKENS_PER_CHUNK // max(1, head.num_sampled_tokens)
        self._groups_per_chunk = min(max(1, size), MOST_GROUPS_PER_CHUNK)
        if self._revised and self._groups_per_chunk != MOST_GROUPS_PER_CHUNK:
            self.generation += 1  # what failed before lies in other chunks now

    # -------------------------------------------------------------------------------- reading

    @property
    def exists(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    @property
    def problems(self) -> list[str]:
        """What could not be read."""
        stopped = self._problem or self._unopened
        unreadable = [
            f"group {group} is left out: {why}" for group, why in self._unreadable.items()
        ]
        return ([stopped] if stopped else []) + unreadable[:MOST_PROBLEMS]

    @property
    def groups(self) -> list[int]:
        """Numbers of the groups that have rows, ascending."""
        return sorted(self._revised)

    @property
    def num_committed(self) -> int:
        """Steps that were trained, by the last of them."""
        steps = set[int]() if self._journal is None else self._journal.committed_steps()
        return max(steps) + 1 if steps else 0

    @property
    def num_torn_bytes(self) -> int:
        """Bytes after the last whole record: of one that is being written, or cut or zeroed."""
        return 0 if self._journal is None else self._journal.num_torn_bytes

    @property
    def has_trained_tokens(self) -> bool:
        """Whether the journal says what the learner made of the tokens, of any step."""
        return self._journal is not None and self._journal.has_trained_records()

    def step_of(self, group: int) -> int | None:
        """The step that trained a group; None if none did."""
        return None if self._journal is None else self._journal.step_of(group)

    def chunk_of(self, group: int) -> int:
        """The chunk that has the episodes of a group."""
        return group // (self._groups_per_chunk or MOST_GROUPS_PER_CHUNK)

    def chunk_revisions(self) -> dict[int, int]:
        """Of each chunk, ascending, the revision of its last change."""
        found: dict[int, int] = {}
        for group in self.groups:
            number = self.chunk_of(group)
            found[number] = max(found.get(number, 0), self._revised[group])
        return found

    def chunk(self, number: int) -> dict[str, Any] | None:
        """The episodes of a few groups, from the disk; None if there are none of that number."""
        size = self._groups_per_chunk or MOST_GROUPS_PER_CHUNK
        groups = [g for g in range(number * size, (number + 1) * size) if g in self._revised]
        if not groups:
            return None
        episodes = [episode for group in groups for episode in self._episodes(group)]
        return chunk(episodes, self._tokens)

    def columns(self, left_out: Collection[int] = ()) -> dict[str, Any]:
        """The list of episodes as the page takes it; `left_out` are chunks that it lacks."""

        def chunk_of(group: int) -> int | None:
            found = self.chunk_of(group)
            return None if found in left_out else found

        return self.table.columns(self.step_of, chunk_of)

    def _episodes(self, group: int) -> Iterator[dict[str, Any]]:
        try:
            outcome = self._outcome(group)
            trained = self._trained_members(group)
        except (JournalError, DataError) as error:
            self._unreadable[group] = str(error)
            return
        if outcome is not None:
            earlier = [f.outcome for f in self._failures.get(group, ()) if f.outcome != outcome]
            told = [f"the group was dropped: {text(describe_failure(e.failure))}" for e in earlier]
            yield from episodes_of(group, self.step_of(group), outcome, trained, told)

    def _outcome(self, group: int) -> RolledOutGroup | DroppedGroup | None:
        """How a group ended, or failed for the time being; None for a number without a group."""
        assert self._journal is not None
        if self._journal.has_group(group):
            return self._journal.read_group(group).outcome
        failures = self._failures.get(group)
        return failures[-1].outcome if failures else None

    def _trained_members(self, group: int) -> Mapping[int, TrainedMember]:
        step = self.step_of(group)
        return {} if step is None else self._trained(step).get(group, {})

    def _read_trained(self, step: int) -> Mapping[int, Mapping[int, TrainedMember]]:
        """What the learner said in a step, by group and place of the trajectory."""
        assert self._journal is not None
        record = self._journal.read_trained(step)
        found: defaultdict[int, dict[int, TrainedMember]] = defaultdict(dict)
        for member in record.members if record else ():
            found[member.group][member.member] = member
        return found
