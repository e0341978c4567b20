import json
import sys
from types import ModuleType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.data import DATA_VARIABLE, HubSource, load_rows, read_jsonl
from tinker_rl.errors import DataError


class Pair(msgspec.Struct, frozen=True):
    left: str
    right: int = 0


HUB = HubSource("someone/pairs", "main")
SOURCES = ("data_path", DATA_VARIABLE, "Hugging Face hub")
text = st.text(st.characters(codec="utf-8"))
pairs = st.lists(st.builds(Pair, text, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=5)


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "rows.jsonl"


def lines(rows, **options):
    return "\n".join(json.dumps(msgspec.to_builtins(row), **options) for row in rows)


@given(
    rows=pairs, escaped=st.booleans(), bom=st.booleans(), tail=st.sampled_from(["", "\n", "\r\n\n"])
)
def test_rows_are_read_as_they_were_written(path, rows, escaped, bom, tail):
    content = lines(rows, ensure_ascii=escaped) + tail
    path.write_bytes(("\ufeff" * bom + content).encode())
    assert read_jsonl(path, Pair) == rows


@given(
    rows=pairs,
    place=st.integers(0, 5),
    bad=st.sampled_from(
        [
            (b'{"left": "a"', "one JSON object"),
            (b"left", "one JSON object"),
            (b'{"left": "a"} {"left": "b"}', "one JSON object"),
            (b"{}", "required field `left`"),
            (b'{"left": 1}', "Expected `str`, got `int`"),
            (b'{"left": "a", "right": "b"}', "Expected `int`, got `str`"),
            (b"[]", "got `array`"),
            (b"null", "got `null`"),
            (b'{"left": "caf\xe9"}', "byte 0xe9 at position 14"),
        ]
    ),
)
def test_a_malformed_line_is_named_with_its_number_and_what_came(path, rows, place, bad):
    line, complaint = bad
    content = lines(rows).encode().split(b"\n")
    place = min(place, len(content))
    path.write_bytes(b"\n".join([*content[:place], line, *content[place:]]))
    with pytest.raises(DataError) as caught:
        read_jsonl(path, Pair)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {place + 1}: expected ")
    assert complaint in message
    assert len(message) < 500


def test_a_line_that_is_nested_too_deeply_is_an_error_of_the_line(path):
    path.write_bytes(b'{"extra": ' + b"[" * 100_000)
    with pytest.raises(DataError, match="line 1: expected one JSON object") as caught:
        read_jsonl(path, Pair)
    assert len(str(caught.value)) < 500


def test_the_error_of_a_row_says_what_a_row_is(path):
    path.write_text('{"left": 1}')
    with pytest.raises(DataError, match=r"an object with left \(str\), right \(int\)"):
        read_jsonl(path, Pair)


def test_a_check_of_a_row_type_is_an_error_of_the_line(path):
    class Even(msgspec.Struct):
        number: int

        def __post_init__(self):
            if self.number % 2:
                raise ValueError("expected an even number")

    path.write_text('{"number": 2}\n\n{"number": 3}')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 3: .*expected an even number"):
        read_jsonl(path, Even)


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match="got an empty file"):
        read_jsonl(path, Pair)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_jsonl(tmp_path / "none.jsonl", Pair)
    with pytest.raises(DataError, match="Is a directory"):
        read_jsonl(tmp_path, Pair)


# ----------------------------------------------------------------------------------- sources


def write(folder, split, left):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text(json.dumps({"left": left}))


def test_a_path_goes_before_the_folder_of_the_environment(tmp_path, monkeypatch):
    write(tmp_path / "mine", "train", "path")
    write(tmp_path / "all" / "pairs", "train", "folder")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "all"))
    loaded = load_rows("pairs", Pair, "train", data_path=tmp_path / "mine", hub=HUB)
    assert loaded.rows == [Pair("path")]
    assert loaded.source == f"data_path: {tmp_path / 'mine' / 'train.jsonl'}"
    loaded = load_rows("pairs", Pair, "train", hub=HUB)
    assert loaded.rows == [Pair("folder")]
    assert loaded.source == f"{DATA_VARIABLE}: {tmp_path / 'all' / 'pairs' / 'train.jsonl'}"


def test_a_path_may_be_one_file(tmp_path):
    write(tmp_path, "train", "a")
    for split in ("train", "test"):
        loaded = load_rows("pairs", Pair, split, data_path=str(tmp_path / "train.jsonl"))
        assert loaded.rows == [Pair("a")]


def test_a_home_folder_is_written_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "mine", "test", "a")
    assert load_rows("pairs", Pair, "test", data_path="~/mine").rows == [Pair("a")]


def test_a_path_that_is_missing_is_not_replaced_by_another_source(tmp_path, monkeypatch):
    write(tmp_path / "pairs", "train", "folder")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(DataError) as caught:
        load_rows("pairs", Pair, "train", data_path=tmp_path / "gone", hub=HUB)
    assert "gone' (not there)" in str(caught.value)
    assert all(source in str(caught.value) for source in SOURCES)


def test_data_that_is_nowhere_is_an_error_that_names_all_sources(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError) as caught:
        load_rows("pairs", Pair, "test", hub=HUB)
    message = str(caught.value)
    assert all(source in message for source in SOURCES)
    assert f"{DATA_VARIABLE} (not set)" in message
    assert "`datasets` is not installed" in message
    assert "someone/pairs" in message
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=r"holds no pairs/test\.jsonl"):
        load_rows("pairs", Pair, "test", hub=HUB)
    with pytest.raises(DataError, match="no place on the hub"):
        load_rows("pairs", Pair, "test")


@pytest.fixture
def hub_library(monkeypatch):
    """The library that speaks to the hub, which is not ours and has no network here."""

    class Library(ModuleType):
        def __init__(self):
            super().__init__("datasets")
            self.rows = [{"left": "a", "extra": None}, {"left": "b", "right": 2}]
            self.asked = []

        def load_dataset(self, repository, name=None, split=None):
            self.asked.append((repository, name, split))
            if self.rows is None:
                raise ConnectionError("no route to the hub\nand a long tale")
            return self.rows

    library = Library()
    monkeypatch.setitem(sys.modules, "datasets", library)
    return library


def test_the_hub_is_the_last_source(hub_library):
    loaded = load_rows("pairs", Pair, "test", hub=HUB)
    assert loaded.rows == [Pair("a"), Pair("b", 2)]
    assert loaded.source == "Hugging Face hub: someone/pairs, split test"
    assert hub_library.asked == [("someone/pairs", "main", "test")]


def test_a_hub_that_is_offline_is_an_error_that_says_so(hub_library):
    hub_library.rows = None
    with pytest.raises(DataError, match="ConnectionError: no route to the hub"):
        load_rows("pairs", Pair, "test", hub=HUB)


def test_a_malformed_row_of_the_hub_is_named(hub_library):
    hub_library.rows = [{"left": "a"}, {"left": 5}]
    with pytest.raises(DataError, match="someone/pairs, split test, row 2: expected"):
        load_rows("pairs", Pair, "test", hub=HUB)
    hub_library.rows = []
    with pytest.raises(DataError, match="at least one row"):
        load_rows("pairs", Pair, "test", hub=HUB)


def test_every_line_of_the_real_data_can_be_read(shared_data):
    class Row(msgspec.Struct):
        question: str
        answer: str

    numbers = {
        split: len(load_rows("gsm8k", Row, split, data_path=shared_data / "gsm8k").rows)
        for split in ("train", "test")
    }
    assert numbers == {"train": 7473, "test": 1319}
