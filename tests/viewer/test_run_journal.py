"""A journal that is followed says at every moment what one that is read whole says."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.rl.journal import Journal
from tinker_rl.rl.journal.frames import FILE_HEADER
from tinker_rl.rl.outcomes import EnvFailure
from tinker_rl.viewer.run_journal import RunJournal
from tinker_rl.viewer.tokens import TokenText

TOKENS = TokenText(lambda token: chr(97 + token % 26).encode())


def open_journal(folder):
    return RunJournal(folder / "journal.bin", TOKENS)


def rows(journal, left_out=()):
    """The list, with names for their places."""
    columns = journal.columns(left_out)
    for column, names in (
        ("outcome", "outcomes"),
        ("reason", "reasons"),
        ("tag", "tags"),
        ("title", "titles"),
    ):
        columns[column] = [columns[names][place] for place in columns[column]]
        del columns[names]
    return columns


def whole(journal):
    chunks = {number: journal.chunk(number) for number in journal.chunk_revisions()}
    return {"rows": rows(journal), "chunks": chunks, "steps": journal.num_committed}


class Script:
    """A run that does what it is told, by its journal alone."""

    def __init__(self, make, folder):
        self.make = make
        self.folder = folder
        self.path = folder / "journal.bin"
        self.num_trained = 0
        self.begin()

    def begin(self):
        self.next_group, self.waiting, self.step = 0, [], 0
        self.path.unlink(missing_ok=True)
        self.append(self.make.start())

    def append(self, *records):
        self.make.append(self.folder, *records)

    def group(self, size):
        episodes = [
            self.make.episode(self.make.turn([self.next_group % 9, 1], [2, 3][: n % 3], float(n)))
            for n in range(size)
        ]
        outcome = self.make.rolled_out(*episodes) if size else self.make.dropped()
        self.append(self.make.group(self.next_group, outcome, self.step))
        self.waiting.append(self.next_group)
        self.next_group += 1

    def fail(self, _):
        self.append(self.make.failure(self.next_group))

    def commit(self, count):
        groups, self.waiting = self.waiting[:count], self.waiting[count:]
        self.num_trained += 1  # no two say the same, so that nothing old passes for new
        members = [(number, 1, [-1 - self.num_trained / 8], [0.5]) for number in groups]
        self.append(self.make.trained(self.step, *members), self.make.commit(self.step, *groups))
        self.step += 1

    def rewind(self, count):
        self.step = max(0, self.step - count)
        self.append(self.make.start(self.step))
        with Journal.read(self.path) as journal:
            self.waiting = sorted(journal.finished_groups() - journal.trained_groups())

    def tear(self, count):
        with self.path.open("ab") as file:
            file.write(b"\x07" * count)

    def cut(self, count):
        """Take away the last bytes of the file: a record or two, and what a tear had left."""
        size = self.path.stat().st_size
        os.truncate(self.path, max(len(FILE_HEADER), size - 150 * count - 1))
        Journal.open(self.path).close()
        with Journal.read(self.path) as journal:
            finished = journal.finished_groups()
            self.waiting = sorted(finished - journal.trained_groups())
            self.next_group = max(finished, default=-1) + 1
            self.step = journal.commits[-1].step + 1 if journal.commits else 0

    def anew(self, _):
        self.begin()


ACTIONS = st.tuples(
    st.sampled_from(["group", "group", "group", "fail", "commit", "rewind", "tear", "cut", "anew"]),
    st.integers(0, 3),
    st.booleans(),
)


@given(actions=st.lists(ACTIONS, max_size=12))
@settings(max_examples=50)
def test_following_and_reading_whole_agree(make, tmp_path_factory, actions):
    folder = tmp_path_factory.mktemp("run")
    followed = open_journal(folder)
    followed.poll()
    script = Script(make, folder)
    for name, number, is_polled in actions:
        getattr(script, name)(number)
        if is_polled:
            followed.poll()
    followed.poll()
    read = open_journal(folder)
    read.poll()
    np.testing.assert_equal(whole(followed), whole(read))
    if not {name for name, *_ in actions} & {"rewind", "cut", "anew"}:
        assert followed.generation == 0
    followed.close(), read.close()
    shutil.rmtree(folder)


@pytest.fixture
def journal(folder, make):
    make.append(
        folder,
        make.start(),
        make.group(0, make.simple(1.0, 0.0)),
        make.group(1, make.simple(1.0)),
        make.trained(0, (0, 1, [-0.5, -2.5], [0.5])),
        make.commit(0, 0, 1),
        make.group(3, None),
        make.group(2, make.dropped(member=None)),
    )
    found = open_journal(folder)
    found.poll()
    yield found
    found.close()


def test_the_list_has_a_row_for_each_episode(journal):
    found = rows(journal)
    assert found["count"] == 4
    assert found["group"] == [0, 0, 1, 2]
    assert found["member"] == [0, 1, 0, None]
    assert found["step"] == [0, 0, 0, None]
    assert found["version"] == [1, 1, 1, None]
    assert found["advantage"][:3] == [0.5, -0.5, 0.0]
    assert found["outcome"] == ["completed"] * 3 + ["dropped"]
    assert found["reason"][2:] == ["completed", "OSError"]
    assert journal.table.count() == (3, 1)
    assert found["tokens"] == [2, 2, 2, 40]
    assert found["chunk"] == [0, 0, 0, 0]
    np.testing.assert_allclose(found["max_ratio"], [np.nan, np.exp(2), np.nan, np.nan], rtol=1e-6)


def test_rows_are_in_the_order_of_groups_and_members(journal, folder, make):
    late = make.rolled_out(*(make.episode(make.turn([1], [2])) for _ in range(2)), members=(3, 1))
    make.append(folder, make.group(9, late), make.group(5, make.simple(1.0)))
    journal.poll()
    found = rows(journal)
    assert list(zip(found["group"], found["member"], strict=True))[4:] == [(5, 0), (9, 1), (9, 3)]


def test_chunks_that_a_page_lacks_are_in_its_list_as_nothing(journal):
    assert rows(journal, left_out={0})["chunk"] == [None] * 4


def test_a_poll_without_news_changes_nothing(journal):
    before = journal.revision, journal.generation, journal.chunk_revisions()
    assert not journal.poll()
    assert (journal.revision, journal.generation, journal.chunk_revisions()) == before


def test_a_change_is_told_of_the_chunks_that_it_touches(journal, folder, make):
    make.append(folder, make.group(16, make.simple(1.0)))
    assert journal.poll()
    assert journal.chunk_revisions() == {0: 1, 1: 2}
    make.append(folder, make.commit(1, 16))
    journal.poll()
    assert journal.chunk_revisions() == {0: 1, 1: 3}
    assert journal.generation == 0


def test_a_record_that_is_being_written_is_not_there_yet(journal, folder, make):
    path = folder / "journal.bin"
    size = path.stat().st_size
    make.append(folder, make.group(7, make.simple(1.0)))
    data = path.read_bytes()
    os.truncate(path, size)
    for end in (size + 3, size + 17, len(data) - 1, len(data)):
        with path.open("ab") as file:
            file.write(data[path.stat().st_size : end])
        assert journal.poll() == (end == len(data))
        assert journal.problems == []
    assert rows(journal)["group"][-1] == 7
    assert journal.generation == 0


def test_what_the_learner_said_of_a_step_that_was_trained_again_is_the_last(journal, folder, make):
    journal.chunk(0)
    again = make.trained(0, (0, 1, [-0.5, -1.5], [0.5])), make.commit(0, 0, 1)
    make.append(folder, make.start(0), *again)
    journal.poll()
    assert rows(journal)["max_ratio"][1] == pytest.approx(np.e)
    (turn,) = journal.chunk(0)["episodes"][1]["turns"]
    assert turn["learner_logprobs"] == [-0.5, -1.5]


@pytest.mark.parametrize(("version", "is_void"), [(1, False), (0, True)])
def test_a_rewound_run_is_another_generation(journal, folder, make, version, is_void):
    make.append(folder, make.start(version))
    journal.poll()
    assert journal.generation == is_void
    assert rows(journal)["step"][:3] == [None if is_void else 0] * 3
    assert np.isnan(rows(journal)["max_ratio"][1]) == is_void


def test_a_failure_is_shown_until_the_group_is_finished_and_then_beside_it(journal, folder, make):
    make.append(folder, make.failure(5))
    journal.poll()
    assert rows(journal)["outcome"][-1] == "dropped"
    make.append(folder, make.group(5, make.simple(1.0)))
    journal.poll()
    assert rows(journal)["outcome"][-1] == "completed"
    (episode,) = [e for e in journal.chunk(0)["episodes"] if e["group"] == 5]
    why = "environment, in step (my_env.py:12): OSError: gone"
    assert episode["failures"] == [f"the group was dropped: {why}"]


def test_a_failure_that_became_the_group_s_end_is_told_once(journal, folder, make):
    earlier = make.dropped(EnvFailure("make_envs", "ValueError", "no"), member=None)
    make.append(folder, make.failure(5, earlier), make.failure(5), make.group(5, make.dropped()))
    journal.poll()
    (episode,) = [e for e in journal.chunk(0)["episodes"] if e["group"] == 5]
    assert episode["error"].endswith("OSError: gone")
    told = "the group was dropped: environment, in make_envs: ValueError: no"
    assert episode["failures"] == [told]


def test_what_lies_before_damage_is_shown_and_the_damage_told(journal, folder, make):
    before = rows(journal)
    path = folder / "journal.bin"
    size = path.stat().st_size
    make.append(folder, make.group(7, make.simple(1.0)))
    with path.open("r+b") as file:
        file.seek(size + 40)
        file.write(b"\0\0\0")
    journal.poll()
    np.testing.assert_equal(rows(journal), before)
    assert f"record at offset {size}" in journal.problems[0]
    os.truncate(path, size)
    make.append(folder, make.group(7, make.simple(1.0)))
    journal.poll()
    assert journal.problems == []
    assert rows(journal)["group"][-1] == 7


def test_a_file_that_was_cut_is_read_anew(journal, folder):
    os.truncate(folder / "journal.bin", len(FILE_HEADER))
    journal.poll()
    assert rows(journal)["count"] == 0
    assert journal.chunk_revisions() == {}
    assert journal.generation == 1


def test_a_file_that_was_cut_and_written_on_between_two_looks_is_read_anew(journal, folder, make):
    path = folder / "journal.bin"
    kept = path.read_bytes()
    make.append(folder, make.group(7, make.simple(1.0, 2.0, 3.0)))
    journal.poll()
    with path.open("r+b") as file:
        file.truncate(len(kept))
    make.append(folder, make.group(8, make.simple(*range(9))), make.group(9, make.simple(1.0)))
    journal.poll()
    assert journal.problems == []
    assert rows(journal)["group"][4:] == [8] * 9 + [9]
    assert journal.generation == 1


def test_chunks_that_turn_out_to_be_smaller_are_another_generation(folder, make):
    make.append(folder, make.failure(0))
    found = open_journal(folder)
    found.poll()
    assert found.chunk_revisions() == {0: 1}
    long = make.episode(make.turn([1], range(30_000)))
    make.append(folder, make.group(3, make.rolled_out(long)))
    found.poll()
    assert found.chunk_revisions() == {0: 1, 3: 2}
    assert found.generation == 1
    found.close()


def test_returns_that_no_float_holds_have_no_advantage(folder, make):
    turns = [make.turn([1], [2], 1.7e308), make.turn([1, 2], [3], 1.7e308)]
    make.append(folder, make.group(0, make.rolled_out(make.episode(*turns))))
    found = open_journal(folder)
    found.poll()
    np.testing.assert_equal(rows(found)["advantage"], [np.nan])
    np.testing.assert_equal(found.chunk(0)["episodes"][0]["advantage"], np.nan)
    found.close()


def test_a_file_that_is_no_journal_is_told(folder):
    (folder / "journal.bin").write_text("a diary\n")
    found = open_journal(folder)
    found.poll()
    assert "expected the beginning of a journal" in found.problems[0]
    assert rows(found)["count"] == 0
    found.close()


def test_long_groups_have_chunks_of_their_own(folder, make):
    long = make.episode(make.turn([1], range(30_000)))
    make.append(folder, *(make.group(n, make.rolled_out(long, long)) for n in range(3)))
    found = open_journal(folder)
    found.poll()
    assert rows(found)["chunk"] == [0, 0, 1, 1, 2, 2]
    assert [e["group"] for e in found.chunk(1)["episodes"]] == [1, 1]
    assert found.chunk(3) is None
    found.close()
