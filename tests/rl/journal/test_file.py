import os
import resource
import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import DataError, JournalError
from tinker_rl.rl.journal import Journal
from tinker_rl.rl.journal.frames import FILE_HEADER, pack_frame
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure


def dropped(num_bytes):
    """An outcome of about that size."""
    failure = EnvFailure("step", "OSError", "x" * num_bytes)
    return DroppedGroup(failure=failure, member=None, num_sampled_tokens=0)


@pytest.fixture
def journal(path):
    with Journal.open(path) as journal:
        yield journal


@pytest.fixture
def file_size_limit():
    """Sets how large a file of this process may grow: the way of a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda num_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(data=st.data())
def test_what_was_appended_is_read_again(records, folder, data):
    path = folder / "again.bin"
    path.unlink(missing_ok=True)
    numbers = data.draw(st.lists(st.integers(0, 99), unique=True, max_size=4))
    groups = {number: data.draw(records.groups(st.just(number))) for number in numbers}
    with Journal.open(path) as journal:
        for group in groups.values():
            journal.append(group)
        here = {number: records.plain(journal.read_group(number)) for number in groups}
    with Journal.read(path) as journal:
        again = {number: records.plain(journal.read_group(number)) for number in groups}
        assert journal.finished_groups() == groups.keys()
    assert here == again == {number: records.plain(group) for number, group in groups.items()}


def test_a_new_journal_is_empty_and_whole(path, journal):
    assert path.read_bytes() == FILE_HEADER
    assert journal.torn is None
    assert (journal.groups, journal.commits, journal.starts, journal.evaluations) == (
        {},
        (),
        (),
        (),
    )


def test_a_group_that_is_not_there_is_an_error(path, journal):
    with pytest.raises(JournalError, match=rf"expected a finished group; got 7.*{path}"):
        journal.read_group(7)


def test_one_that_is_read_only_is_not_written_to(path, journal, records):
    journal.append(records.finished(0))
    with Journal.read(path) as reader:
        for write in (lambda: reader.append(records.finished(1)), reader.sync):
            with pytest.raises(JournalError, match=r"Use Journal\.open"):
                write()
        assert reader.read_group(0).group == 0


def test_a_closed_one_says_so_and_closes_again(journal, records):
    journal.append(records.finished(0))
    journal.close()
    journal.close()
    calls = (
        lambda: journal.append(records.finished(1)),
        journal.sync,
        lambda: journal.read_group(0),
    )
    for call in calls:
        with pytest.raises(JournalError, match="got a closed one"):
            call()
    assert journal.finished_groups() == {0}


def test_a_place_that_cannot_hold_a_file_is_an_error(tmp_path):
    for open_it in (Journal.open, Journal.read):
        for place in (tmp_path, tmp_path / "nowhere" / "journal.bin"):
            with pytest.raises(DataError, match=rf"{place}: expected a journal"):
                open_it(place)


@pytest.mark.parametrize("is_cut", [True, False])
def test_damage_after_opening_is_found_when_the_group_is_read(path, journal, records, is_cut):
    journal.append(records.finished(0, dropped(100)))
    with path.open("r+b") as file:
        file.seek(60)
        file.write(b"!")
        if is_cut:
            file.truncate()
    with pytest.raises(JournalError, match=r"offset 20: expected "):
        journal.read_group(0)


def test_an_outcome_that_this_version_does_not_know_is_found_when_it_is_read(path, journal):
    later = {"type": "group", "group": 3, "policy_version": 0, "outcome": {"type": "later"}}
    with path.open("ab") as file:
        file.write(pack_frame(msgspec.msgpack.encode(later)))
    with Journal.read(path) as reader, pytest.raises(JournalError, match=r"offset 20: .*'later'"):
        reader.read_group(3)


def test_a_disk_that_fails_is_an_error(journal, records):
    journal.append(records.finished(0))
    (read_end, write_end) = os.pipe()
    os.dup2(read_end, journal._fd)  # a pipe can neither be read at a place nor synced nor cut
    for call in (
        lambda: journal.read_group(0),
        journal.sync,
        lambda: journal.append(records.finished(1)),
    ):
        with pytest.raises(DataError, match="expected a journal that can be read and written"):
            call()
    assert journal.finished_groups() == {0}
    os.close(read_end)
    os.close(write_end)


def test_what_an_interrupted_append_left_is_cut_off_by_the_next_one(path, journal, records):
    journal.append(records.finished(0))
    with path.open("ab") as file:
        file.write(b"a part of a record" * 100)
    journal.append(records.finished(1))
    with Journal.read(path) as reader:
        assert (reader.torn, reader.finished_groups()) == (None, {0, 1})


@pytest.mark.parametrize("room", [0, 1, 16, 500])
def test_a_full_disk_leaves_whole_records_and_what_follows_fits(
    path, journal, records, file_size_limit, room
):
    journal.append(records.finished(0))
    whole = path.stat().st_size
    file_size_limit(whole + room)
    with pytest.raises(DataError, match=rf"{path}: expected a journal.*Make room"):
        journal.append(records.finished(1, dropped(5000)))
    assert path.stat().st_size == whole
    assert journal.finished_groups() == {0}
    file_size_limit(resource.RLIM_INFINITY)
    journal.append(records.finished(1, dropped(5000)))
    with Journal.read(path) as reader:
        assert (reader.torn, reader.finished_groups()) == (None, {0, 1})


WRITER = """
import sys
from pathlib import Path
from tinker_rl.rl.journal import GroupRecord, Journal
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure

journal = Journal.open(Path(sys.argv[1]))
print("ready", journal.torn and journal.torn.num_bytes, flush=True)
number = max(journal.finished_groups(), default=-1) + 1
while True:
    failure = EnvFailure("step", "OSError", str(number) * (number * 7919 % 100_000))
    outcome = DroppedGroup(failure=failure, member=0, num_sampled_tokens=0)
    journal.append(GroupRecord(group=number, policy_version=0, outcome=outcome))
    print(number, flush=True)
    number += 1
"""


def test_a_killed_process_loses_no_record_that_it_was_told_is_there(path):
    for seconds in (0.05, 0.11, 0.17):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline().startswith("ready")
        acknowledged = [int(writer.stdout.readline())]
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
        writer.stdout.close()
        writer.wait()
        with Journal.read(path) as journal:
            assert journal.finished_groups() >= set(acknowledged)
            for number in acknowledged:
                failure = journal.read_group(number).outcome.failure
                assert failure.error == str(number) * (number * 7919 % 100_000)


def test_threads_append_and_read_side_by_side(path, journal, records):
    failures = []

    def work(thread):
        try:
            for place in range(40):
                number = 40 * thread + place
                journal.append(records.finished(number, dropped(number)))
                assert len(journal.read_group(number).outcome.failure.error) == number
                assert number in journal.groups
                journal.sync()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Journal.read(path) as reader:
        assert reader.finished_groups() == set(range(160))
        assert reader.groups == journal.groups
