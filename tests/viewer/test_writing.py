"""The page in a file: whole, safe and not too large."""

import gzip
import json
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.errors import DataError
from tinker_rl.viewer.page import gzipped, spread, write_page
from tinker_rl.viewer.reader import RunReader
from tinker_rl.viewer.template import page_parts, script_json

HOSTILE = [
    "</script><script>window.pwned = 1</script>",
    "<!--<script>",
    "]]>\u2028\u2029\0\x1b[31m\u202e\ufeff\U0001f4a9&amp;",
    "<img src=x onerror=alert(1)>",
]


@pytest.fixture
def read(request):
    def read(folder):
        run = RunReader(folder)
        request.addfinalizer(run.close)
        run.poll()
        return run

    return read


def test_text_of_a_model_comes_through_as_it_is_and_nowhere_as_markup(folder, read, make, tmp_path):
    encode = make.tokenizer.encode
    turns = [make.turn(encode(words), encode(words), logs={words: words}) for words in HOSTILE]
    outcome = make.rolled_out(*map(make.episode, turns), tags=(HOSTILE[0],))
    make.append(folder, make.group(0, outcome))
    make.append_lines(folder / "metrics.jsonl", {"step": 0, "progress/batch": 0, HOSTILE[0]: 1})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"name": HOSTILE, HOSTILE[1]: 1}))
    path = tmp_path / "view.html"
    write_page([read(folder)], path)
    data, blobs = make.read_page(path)
    assert data["runs"][0]["config"]["name"] == HOSTILE
    assert HOSTILE[0] in blobs["0/metrics"]["series"]
    assert blobs["0/episodes"]["tags"] == [HOSTILE[0]]
    found = blobs["0/chunk/0"]
    for words, episode in zip(HOSTILE, found["episodes"], strict=True):
        (turn,) = episode["turns"]
        said = [found["vocabulary"][str(token)] for token in turn["action"]]
        raw = b"".join(bytes(s) if isinstance(s, list) else s.encode() for s in said)
        assert raw.decode() == words
        assert turn["logs"] == {words: words}
    page = path.read_bytes()
    empty = b"".join(page_parts({}, lambda: iter(())))
    for sign in (b"<script>window", b"<!--", b"<img", "\u2028".encode(), b"\0"):
        assert page.count(sign) == empty.count(sign)
    num_blobs = page.count(b"data-blob=") - empty.count(b"data-blob=")
    assert page.count(b"</script") == empty.count(b"</script") + num_blobs


@given(value=st.recursive(st.text(), st.lists, max_leaves=5))
@settings(max_examples=50)
def test_json_in_a_page_has_no_sign_of_markup_and_says_the_same(value):
    data = script_json(value)
    assert json.loads(data) == value
    assert not set(data.decode()) & set("<>&\u2028\u2029")


def test_scripts_of_the_page_do_not_end_their_own_element():
    page = b"".join(page_parts({"runs": []}, lambda: iter(()))).decode()
    inside = page.split("<script>\n")[1:]
    assert len(inside) > 5
    assert all("</script" not in script.split("\n</script>\n", 1)[0] for script in inside)
    assert "<!--" not in page


@pytest.fixture
def many(folder, make):
    """Twenty groups of long text that does not compress, one in a chunk."""
    rng = random.Random(0)
    for number in range(20):
        logprobs = [-rng.random() for _ in range(20_000)]
        turn = make.turn([number], [1] * 20_000, logprobs=logprobs)
        make.append(folder, make.group(number, make.rolled_out(make.episode(turn))))
    return folder


def test_a_page_that_would_be_too_large_leaves_out_text_evenly_and_says_so(many, read, make):
    run = read(many)
    done = []
    progress = lambda *counts: done.append(counts)  # noqa: E731
    whole = write_page([run], many / "whole.html", progress=progress)
    assert whole.num_left_out == 0
    assert done == [*((n, 20) for n in range(1, 21)), (20, 20)]
    small = write_page([run], many / "small.html", max_mb=0.45)
    assert 10 < small.num_left_out < 18
    assert whole.num_bytes - small.num_bytes > 0.5 * 1e6
    data, blobs = make.read_page(small.path)
    kept = [int(name.rpartition("/")[2]) for name in blobs if "chunk" in name]
    assert {0, 19} < set(kept)
    assert max(b - a for a, b in pairwise(sorted(kept))) <= 5
    rows = blobs["0/episodes"]
    assert rows["group"] == list(range(20))
    assert [n for n in rows["chunk"] if n is not None] == sorted(kept)
    (note,) = [note for note in data["runs"][0]["notes"] if "left out" in note]
    assert f"The text of {20 - len(kept)} of 20 groups" in note
    assert "--serve" in note


@given(count=st.integers(0, 50), taken=st.integers(0, 50))
def test_what_is_taken_first_is_spread_evenly(count, taken):
    items = list(range(count))
    order = list(spread(items))
    assert sorted(order) == items
    first = sorted(order[:taken])
    if count > 1 and taken >= 2:
        gaps = [b - a for a, b in pairwise(first)]
        assert first[0] == 0
        assert first[-1] == count - 1
        assert max(gaps) <= 4 * -(-count // taken)


def test_several_runs_share_a_page(folder, many, read, make, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    make.append_lines(other / "metrics.jsonl", {"step": 0, "loss": 1.0})
    write_page([read(other), read(many)], tmp_path / "view.html")
    data, blobs = make.read_page(tmp_path / "view.html")
    assert [head["id"] for head in data["runs"]] == ["0", "1"]
    assert [head["name"] for head in data["runs"]] == ["other", folder.name]
    assert blobs["0/metrics"]["series"] == {"loss": [1.0]}
    assert blobs["1/episodes"]["count"] == 20
    assert data["mode"] == "file"


def test_a_page_is_whole_or_not_there(many, read, tmp_path):
    run = read(many)
    out = tmp_path / "out"
    out.mkdir()
    (out / "view.html").write_text("the page before")

    def interrupt(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_page([run], out / "view.html", progress=interrupt)
    assert [path.name for path in out.iterdir()] == ["view.html"]
    assert (out / "view.html").read_text() == "the page before"
    (out / "folder.html").mkdir()
    for path in (out / "no" / "view.html", out / "folder.html"):
        with pytest.raises(DataError, match="expected a file that can be written"):
            write_page([run], path)
    assert sorted(path.name for path in out.iterdir()) == ["folder.html", "view.html"]


def test_compressed_parts_are_gzip():
    assert gzip.decompress(gzipped(b"abc" * 1000)) == b"abc" * 1000
