"""Which groups a journal says are finished and trained, after any number of starts."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tinker_rl.errors import JournalError
from tinker_rl.rl.journal import (
    CommitRecord,
    EvaluationRecord,
    FailureRecord,
    GroupRecord,
    Journal,
    StartRecord,
    TrainedMember,
    TrainedRecord,
)
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure

NOTHING = np.zeros(0, np.float32)
groups = st.integers(0, 7)
steps = st.integers(0, 4)
GONE = DroppedGroup(failure=EnvFailure("step", "OSError", "gone"), member=0, num_sampled_tokens=3)


class JournalOfARun(RuleBasedStateMachine):
    """Appends, and opens again, in any order; the model is plain dictionaries."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.bin"
        self.journal = Journal.open(self.path)
        self.finished, self.batches, self.num_starts, self.num_evaluations = {}, {}, 0, 0
        self.failed, self.said, self.num_said = [], {}, 0

    def append(self, record, is_allowed):
        size = self.path.stat().st_size
        if is_allowed:
            self.journal.append(record)
            return
        with pytest.raises(JournalError, match=r"Journal\.append: expected .*; got "):
            self.journal.append(record)
        assert self.path.stat().st_size == size

    @rule(group=groups, version=steps)
    def finish(self, group, version):
        self.append(
            GroupRecord(group=group, policy_version=version, outcome=None),
            group not in self.finished,
        )
        self.finished.setdefault(group, version)

    @rule(group=groups, version=steps)
    def fail(self, group, version):
        record = FailureRecord(group=group, policy_version=version, outcome=GONE)
        self.append(record, True)
        self.failed.append(record)

    @rule(step=steps, batch=st.lists(groups, max_size=3))
    def commit(self, step, batch):
        elsewhere = [group for s, b in self.batches.items() if s != step for group in b]
        allowed = set(batch) <= self.finished.keys() - set(elsewhere)
        allowed = allowed and len(set(batch)) == len(batch)
        record = CommitRecord(
            step=step, groups=tuple(batch), weight_hash=None, acting_version=step + 1
        )
        self.append(record, allowed)
        if allowed:
            self.batches[step] = tuple(batch)

    @rule(version=steps)
    def start(self, version):
        self.append(StartRecord(version=version, weight_hash=None), True)
        self.batches = {step: batch for step, batch in self.batches.items() if step < version}
        self.said = {step: said for step, said in self.said.items() if step < version}
        self.num_starts += 1

    @rule(step=steps)
    def say(self, step):
        self.num_said += 1
        member = TrainedMember(
            group=self.num_said, member=0, learner_logprobs=NOTHING, advantages=NOTHING
        )
        self.append(TrainedRecord(step=step, members=(member,)), True)
        self.said[step] = self.num_said

    @rule(version=steps)
    def evaluate(self, version):
        self.append(EvaluationRecord(version=version, metrics={}), True)
        self.num_evaluations += 1

    @rule()
    def open_again(self):
        self.journal.close()
        self.journal = Journal.open(self.path)

    @invariant()
    def the_index_is_that_of_the_model(self):
        journal = self.journal
        assert journal.finished_groups() == self.finished.keys() == journal.groups.keys()
        heads = journal.heads
        assert {group: heads[group].policy_version for group in heads} == self.finished
        assert {commit.step: commit.groups for commit in journal.commits} == self.batches
        assert [commit.step for commit in journal.commits] == sorted(self.batches)
        assert journal.trained_groups() == {g for batch in self.batches.values() for g in batch}
        assert len(journal.starts) == self.num_starts
        assert len(journal.evaluations) == self.num_evaluations
        assert journal.failures == tuple(self.failed)
        read = {step: journal.read_trained(step) for step in range(6)}
        said = {step: trained.members[0].group for step, trained in read.items() if trained}
        assert said == {step: said for step, said in self.said.items() if step in self.batches}

    def teardown(self):
        self.journal.close()
        self.folder.cleanup()


TestJournalOfARun = JournalOfARun.TestCase
TestJournalOfARun.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture
def journal(path, records):
    """Groups 0 to 3 are finished; step 0 trained the first two."""
    with Journal.open(path) as journal:
        for number in range(4):
            journal.append(records.finished(number))
        journal.append(records.commit(0, 0, 1))
        yield journal


def test_a_group_is_finished_once(journal, records):
    with pytest.raises(JournalError, match="expected a new group; got 3, which is at offset"):
        journal.append(records.finished(3))


def test_a_group_that_is_not_finished_does_not_train(journal, records):
    with pytest.raises(JournalError, match="step 1 to train groups of the journal; got 9"):
        journal.append(records.commit(1, 2, 9))


def test_no_group_trains_twice(journal, records):
    with pytest.raises(JournalError, match="got 1, which step 0 trained"):
        journal.append(records.commit(1, 1, 2))
    with pytest.raises(JournalError, match=r"to train each group once; got \(2, 2\)"):
        journal.append(records.commit(1, 2, 2))


def test_a_start_from_an_older_version_makes_later_commits_void(path, journal, records):
    journal.append(records.commit(1, 2))
    journal.append(StartRecord(version=1, weight_hash=None))
    journal.append(records.commit(1, 3, 2, weight_hash="again"))
    for index in (journal, Journal.read(path)):
        assert [commit.groups for commit in index.commits] == [(0, 1), (3, 2)]
        assert index.trained_groups() == {0, 1, 2, 3}


def test_a_step_committed_again_replaces_the_first(path, journal, records):
    journal.append(records.commit(1, 2))
    journal.append(records.commit(0, 1, 3, weight_hash="again"))
    for index in (journal, Journal.read(path)):
        assert [commit.groups for commit in index.commits] == [(1, 3), (2,)]
        assert index.trained_groups() == {1, 2, 3}
