import json
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.viewer.lines import FollowedLines

ROWS = st.lists(
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
    max_size=8,
)


@settings(max_examples=50)
@given(rows=ROWS, sizes=st.lists(st.integers(1, 60), max_size=12))
def test_rows_are_read_once_each_wherever_the_writing_stands(tmp_path_factory, rows, sizes):
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    lines = FollowedLines(path)
    found = lines.follow().rows
    written = 0
    with path.open("wb", buffering=0) as file:
        for size in [*sizes, len(data)]:
            file.write(data[written : written + size])
            written += size
            found += lines.follow().rows
    lines.close()
    assert found == rows


def test_a_torn_line_is_not_there_yet_and_may_be_cut_off(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b"')
    lines = FollowedLines(path)
    assert lines.follow().rows == [{"a": 1}]
    os.truncate(path, 9)
    with path.open("a") as file:
        file.write('{"c": 3}\n')
    new = lines.follow()
    assert (new.rows, new.is_anew) == ([{"c": 3}], False)


def test_a_file_that_was_cut_replaced_or_deleted_is_read_anew(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b": 2}\n')
    lines = FollowedLines(path)
    lines.follow()
    os.truncate(path, 9)
    new = lines.follow()
    assert (new.rows, new.is_anew) == ([{"a": 1}], True)
    other = tmp_path / "other"
    other.write_text('{"a": 1}\n{"x": 2}\n')
    other.replace(path)
    assert lines.follow().rows == [{"a": 1}, {"x": 2}]
    path.unlink()
    new = lines.follow()
    assert (new.rows, new.is_anew, lines.exists) == ([], True, False)
    path.write_text('{"y": 1}\n')
    assert lines.follow().rows == [{"y": 1}]


def test_lines_that_are_no_objects_are_counted_and_passed_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": NaN}\n[1]\nx\n\xff\n\n{"s": "\\ud800"}\n')
    lines = FollowedLines(path)
    nan, surrogate = lines.follow().rows
    assert nan["a"] != nan["a"]
    assert surrogate == {"s": "\ud800"}
    assert lines.num_bad == 3
