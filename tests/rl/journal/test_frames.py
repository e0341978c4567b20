"""What is torn, and what is damaged: never one taken for the other."""

import os
import re
import zlib
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import JournalError
from tinker_rl.rl.journal import Journal, Torn
from tinker_rl.rl.journal.frames import FILE_HEADER, num_written_bytes, pack_frame, read_frame

BEGIN = len(FILE_HEADER)


def some(records):
    return [records.finished(0), records.commit(0, 0), records.finished(5, version=1)]


def test_a_frame_lies_in_the_file_as_the_format_says():
    summed = pack("<QI", 3, zlib.crc32(b"abc"))
    assert pack_frame(b"abc") == summed + pack("<I", zlib.crc32(summed)) + b"abc" + b"\xa5"


@given(data=st.data())
def test_a_file_cut_anywhere_loses_the_last_record_only(records, folder, data):
    path = folder / "cut.bin"
    path.unlink(missing_ok=True)
    written = some(records)
    offsets = records.written(path, *written)
    size = data.draw(st.integers(0, offsets[-1]))
    zeros = data.draw(st.sampled_from([0, 1, 15, 16, 4096, 70_000]))
    content = path.read_bytes()[:size]
    path.write_bytes(content + b"\0" * zeros)
    whole = max((offset for offset in offsets if offset <= size), default=0)
    num_torn = size + zeros - whole
    torn = Torn(whole, num_torn) if num_torn else None
    for times_read in range(2):
        with Journal.read(path) as journal:
            assert journal.torn == torn
            assert len(journal.groups) + len(journal.commits) == sum(
                offset <= size for offset in offsets[1:]
            )
        assert path.stat().st_size == size + zeros, f"read {times_read} changed the file"
    with Journal.open(path) as journal:
        assert journal.torn == torn
        journal.append(records.finished(7))
    with Journal.open(path) as journal:
        assert journal.torn is None
        assert 7 in journal.groups
        assert len(journal.groups) + len(journal.commits) == 1 + sum(
            offset <= size for offset in offsets[1:]
        )


@given(data=st.data())
def test_a_flipped_bit_is_found_and_its_record_named(records, folder, data):
    path = folder / "flipped.bin"
    path.unlink(missing_ok=True)
    offsets = records.written(path, *some(records))
    place = data.draw(st.integers(0, offsets[-1] - 1))
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    named = max((offset for offset in offsets if offset <= place), default=0)
    for open_it in (Journal.open, Journal.read):
        with pytest.raises(JournalError, match=rf"{re.escape(str(path))}.* offset {named}:"):
            open_it(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("place", "what"), [(0, "header"), (9, "header"), (14, "header"), (20, "payload"), (-1, "byte")]
)
def test_the_error_says_what_is_wrong_and_what_to_do(records, path, place, what):
    _, first, second, _ = records.written(path, *some(records))
    content = bytearray(path.read_bytes())
    content[second - 1 if place < 0 else first + place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(JournalError, match=f"expected .*{what}.*; got ") as caught:
        Journal.open(path)
    size = path.stat().st_size
    assert f"journal {path} --cut {first} (keeps a copy)" in str(caught.value)
    assert f"{size - first} bytes" in str(caught.value)


def test_a_whole_record_that_nobody_can_read_is_named_too(records, path):
    offsets = records.written(path, records.finished(0))
    with path.open("ab") as file:
        file.write(pack_frame(b"\x80"))
    with pytest.raises(JournalError, match=f"offset {offsets[-1]}: expected a record"):
        Journal.open(path)


def test_a_record_that_contradicts_those_before_it_is_named_too(records, path, tmp_path):
    other = tmp_path / "other.bin"
    records.written(other, records.finished(0))
    (_, end) = records.written(path, records.finished(0))
    with path.open("ab") as file:
        file.write(other.read_bytes()[BEGIN:])
    with pytest.raises(JournalError, match=f"offset {end}: expected a new group; got 0"):
        Journal.read(path)


def test_another_file_and_another_format_are_left_alone(path):
    for content, said in [
        (b"\x7fELF and so on", "expected the beginning of a journal"),
        (b"\x7f", "expected the beginning of a journal"),
        (b"tinker_rl journal 12\nmore of it", "expected format 1; got 12"),
    ]:
        path.write_bytes(content)
        with pytest.raises(JournalError, match=said):
            Journal.open(path)
        assert path.read_bytes() == content


def test_a_file_that_is_cut_while_it_is_read_is_damaged(records, path):
    _, end = records.written(path, records.finished(0))
    fd = os.open(path, os.O_RDWR)
    written = num_written_bytes(fd)
    os.ftruncate(fd, end - 3)
    with pytest.raises(ValueError, match="the file was cut meanwhile"):
        read_frame(fd, BEGIN, written)
    os.close(fd)
