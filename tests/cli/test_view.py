"""The command: what it writes where, and how it says what is wrong."""

import json
import re
import shlex
from functools import partial
from pathlib import Path

import pytest

from tinker_rl.cli import view


@pytest.fixture
def run_view(monkeypatch, run_inside, tmp_path):
    """Runs the command in a folder of its own; gives its status, and what it printed."""
    monkeypatch.chdir(tmp_path)
    return partial(run_inside, view.run)


@pytest.fixture
def other(tmp_path):
    """The folder of a run without a journal."""
    path = tmp_path / "other"
    path.mkdir()
    (path / "metrics.jsonl").write_text('{"step": 0, "loss": 1.5}\n')
    return path


def test_a_page_is_written_into_the_folder_of_its_run(folder, run_view):
    status, out, err = run_view(folder)
    assert (status, err) == (0, "")
    path = folder / "view.html"
    assert out.startswith(f"{path} (")
    assert out.count("\n") == 1
    assert '"mode":"file"' in path.read_text()


def test_a_page_of_several_runs_is_written_where_one_is(folder, other, run_view, tmp_path):
    status, out, _ = run_view(folder, other)
    assert status == 0
    assert out.startswith(f"{tmp_path / 'view.html'} (")


def test_what_is_no_run_is_left_out_with_a_warning(other, run_view, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").touch()
    status, out, err = run_view("notes", other, "file.txt")
    assert status == 0
    assert out.startswith(f"{other / 'view.html'} (")
    assert err.splitlines() == [
        f"warning: {name} is no run's folder or journal; it is left out"
        for name in ("notes", "file.txt")
    ]


@pytest.mark.parametrize("form", [["--out", "a.html"], ["--out=a.html"], ["out=a.html"]])
def test_the_page_goes_where_it_is_asked_for(other, run_view, tmp_path, form):
    assert run_view(other, *form)[0] == 0
    assert (tmp_path / "a.html").is_file()
    assert not (other / "view.html").exists()


def test_too_small_a_bound_leaves_text_out_and_says_so(folder, run_view):
    status, _, err = run_view(folder, "max_mb=0.0001")
    assert status == 0
    assert "the text of some groups is left out, as it is over max_mb=0.0001" in err


def test_a_trace_is_written_instead_or_beside(other, run_view, tmp_path):
    span = {"lane": "learner", "name": "trains", "at": 1.0, "seconds": 2.0, "step": 0}
    (other / "timeline.jsonl").write_text(json.dumps(span) + "\n")
    status, out, _ = run_view(other, "--trace", "trace.json")
    assert status == 0
    assert "perfetto" in out
    assert not (other / "view.html").exists()
    names = [e["name"] for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]]
    assert "trains" in names
    run_view(other, "trace=trace.json", "out=view.html")
    assert (tmp_path / "view.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "expected a run's folder"),
        ([__file__, "--serve"], "expected a run's folder"),
        ([], "the following arguments are required: RUN"),
        (["RUN", "--trace", "t.json"], "expected a run with a timeline.jsonl"),
        (["RUN", "--serve", "--out", "x"], "expected --serve, or a file to write; got both"),
        (["RUN", "serve=perhaps"], "serve: expected true or false; got 'perhaps'"),
        (["RUN", "max_mb=0"], "max_mb: expected megabytes above 0"),
        (["RUN", "port=99999"], "port: expected 0 to 65535"),
        (["RUN", "--no-such"], "unrecognized arguments: --no-such"),
        (["RUN", "out=no/such/view.html"], "expected a file that can be written"),
    ],
)
def test_a_mistake_is_said_in_a_line(other, run_view, arguments, message):
    status, out, err = run_view(*[other if name == "RUN" else name for name in arguments])
    assert status == 1
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_the_commands_of_the_docs_are_commands():
    text = (Path(__file__).parents[2] / "docs" / "viewer.md").read_text(encoding="utf-8")
    commands = re.findall(r"python -m tinker_rl view\s+([^#`\n]*)", text)
    assert len(commands) > 4
    for command in commands:
        assert view.parse(shlex.split(command)).runs


def test_serve_false_writes_the_file(other, run_view):
    assert run_view(other, "serve=false")[0] == 0
    assert (other / "view.html").is_file()
