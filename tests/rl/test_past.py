"""What a start learns from the journal of those before it."""

from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.rl.journal import (
    CommitRecord,
    EvaluationRecord,
    GroupRecord,
    Journal,
    StartRecord,
)
from tinker_rl.rl.past import Past

SIZE = 2


def group(number):
    return GroupRecord(group=number, policy_version=0, outcome=None)


def commit(step, acting=None, path=None):
    return CommitRecord(
        step=step,
        groups=tuple(range(step * SIZE, (step + 1) * SIZE)),
        weight_hash="w",
        acting_version=step + 1 if acting is None else acting,
        sampler_path=path,
        metrics={"step": step, "progress/batch": step},
    )


def write(path, records):
    journal = Journal.open(path)
    for record in records:
        journal.append(record)
    return journal


def start(version, path=None):
    return StartRecord(version=version, weight_hash=None, sampler_path=path)


@given(
    first=st.integers(0, 3),
    num_commits=st.integers(0, 4),
    num_waiting=st.integers(0, 3),
    checkpoint=st.integers(0, 9),
)
def test_every_group_before_the_present_was_trained_or_waits(
    tmp_path_factory, first, num_commits, num_waiting, checkpoint
):
    last = first + num_commits
    numbers = range(first * SIZE, last * SIZE + num_waiting)
    records = [start(first), *map(group, numbers), *map(commit, range(first, last))]
    with write(tmp_path_factory.mktemp("past") / "journal.bin", records) as journal:
        past = Past.of(journal, checkpoint)
        assert (past.first_version, past.num_committed) == (first, last)
        assert past.trained(SIZE) == frozenset(range(last * SIZE))
        waiting = past.waiting(journal)
        assert list(waiting) == list(range(last * SIZE, last * SIZE + num_waiting))
        assert all(record.group == number for number, record in waiting.items())
        assert [row["step"] for row in past.rows()] == list(range(first, last))


def test_without_a_journal_the_checkpoint_says_where_the_run_stands(tmp_path):
    with write(tmp_path / "journal.bin", []) as journal:
        past = Past.of(journal, 3)
    assert past.first_version == past.num_committed == 3
    assert past.trained(SIZE) == frozenset(range(6))
    assert past.rows() == []
    assert past.mute == frozenset()


def test_versions_that_could_not_act_are_mute_unless_they_are_the_present(tmp_path):
    groups = map(group, range(8))
    acting = [commit(0), commit(1, acting=1), commit(2, acting=1), commit(3, acting=1)]
    with write(tmp_path / "journal.bin", [start(0), *groups, *acting]) as journal:
        assert Past.of(journal, 0).mute == frozenset({2, 3})


def test_the_newest_word_on_a_version_counts(tmp_path):
    records = [
        start(0, "start-0"),
        *map(group, range(4)),
        commit(0, path="first"),
        commit(1, path="second"),
        start(1, "start-1"),  # void from here on: the commit of step 1
        commit(1, path="third"),
        EvaluationRecord(version=0, metrics={"x": 1.0}),
        EvaluationRecord(version=2, metrics={"x": 2.0}),
    ]
    with write(tmp_path / "journal.bin", records) as journal:
        past = Past.of(journal, 0)
    assert past.num_committed == 2
    assert past.paths == {0: "start-0", 1: "first", 2: "third"}
    assert past.evaluations == {0: {"x": 1.0}, 2: {"x": 2.0}}
    rows = [(row["step"], "progress/batch" in row) for row in past.rows()]
    assert rows == [(0, False), (0, True), (1, True), (2, False)]
