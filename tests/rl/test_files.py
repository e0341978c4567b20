import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import DataError
from tinker_rl.rl.files import JsonLines, write_text

values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
records = st.lists(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=3),
    max_size=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@given(written=records)
def test_what_was_appended_is_read_back(folder, written):
    lines = JsonLines(folder / "round_trip.jsonl")
    lines.path.unlink(missing_ok=True)
    for record in written:
        lines.append(record)
    assert lines.read() == written
    text = lines.path.read_text(encoding="utf-8") if written else ""
    assert [json.loads(line) for line in text.split("\n")[:-1]] == written


@given(written=records.filter(bool), data=st.data())
def test_a_file_torn_anywhere_keeps_its_whole_lines_and_takes_more(folder, written, data):
    lines = JsonLines(folder / "torn.jsonl")
    lines.replace(written)
    whole = lines.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)), label="cut")
    lines.path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    assert lines.read() == written[:kept]
    lines.append({"next": 1})
    assert lines.read() == [*written[:kept], {"next": 1}]


def test_numbers_that_json_has_not_become_null(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.append({"a": math.nan, "b": math.inf})
    assert lines.read() == [{"a": None, "b": None}]


def test_a_line_that_is_damaged_is_named(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.path.write_text('{"a": 1}\nnonsense\n{"b": 2}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: expected a JSON object; got b'nons"):
        lines.read()


def test_a_file_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(DataError, match=r"expected a file that can be written; got No such file"):
        JsonLines(tmp_path / "missing" / "a.jsonl").append({})
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="expected a file that can be written"):
        write_text(tmp_path / "file" / "a.txt", "text")


@pytest.mark.skipif("not __import__('os').path.exists('/dev/full')", reason="needs /dev/full")
def test_a_full_disk_says_so():
    with pytest.raises(DataError, match="No space left on device"):
        JsonLines(__import__("pathlib").Path("/dev/full")).append({"a": 1})


def test_a_whole_file_is_replaced_at_once(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]
