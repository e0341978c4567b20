import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import DataError, JournalError
from tinker_rl.rl.journal import Journal, cut_journal


@given(data=st.data())
def test_a_damaged_journal_goes_on_from_the_record_before_the_damage(records, folder, data):
    path = folder / "journal.bin"
    for file in folder.iterdir():
        file.unlink()
    offsets = records.written(path, *(records.finished(number) for number in range(4)))
    damaged = data.draw(st.integers(0, 3))
    place = data.draw(st.integers(offsets[damaged], offsets[damaged + 1] - 1))
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    cut = cut_journal(path, offsets[damaged])
    assert cut.copy.read_bytes() == content
    assert cut.num_bytes == offsets[-1] - offsets[damaged]
    with Journal.open(path) as journal:
        assert journal.torn is None
        assert journal.finished_groups() == set(range(damaged))


def test_a_torn_end_is_cut_too(records, path):
    offsets = records.written(path, records.finished(0))
    with path.open("ab") as file:
        file.write(b"abc")
    assert cut_journal(path, offsets[-1]).num_bytes == 3
    assert path.stat().st_size == offsets[-1]


def test_copies_of_earlier_cuts_are_kept(records, path):
    offsets = records.written(path, records.finished(0), records.finished(1))
    first = cut_journal(path, offsets[1])
    records.written(path, records.finished(1))
    second = cut_journal(path, offsets[1])
    assert first.copy != second.copy
    assert first.copy.read_bytes() == second.copy.read_bytes()


def test_only_where_a_record_begins_is_cut(records, path):
    offsets = records.written(path, records.finished(0), records.finished(1))
    content = path.read_bytes()
    for offset in (-1, 0, offsets[1] + 1, offsets[-1], offsets[-1] + 7):
        with pytest.raises(JournalError, match=rf"got {offset}, .* The nearest is"):
            cut_journal(path, offset)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_without_room_for_the_copy_nothing_is_cut(records, path):
    offsets = records.written(path, records.finished(0), records.finished(1))
    content = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (offsets[0], limits[1]))
    try:
        with pytest.raises(DataError, match="nothing was cut"):
            cut_journal(path, offsets[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_not_there_is_an_error(path):
    with pytest.raises(DataError, match=os.strerror(2)):
        cut_journal(path, 20)
