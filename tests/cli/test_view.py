"""The command: what it writes where, and how it says what is wrong."""

import json
import re
import shlex
import shutil
from functools import partial
from pathlib import Path

import pytest

from tinker_rl.cli import view
from tinker_rl.rl.journal import TrainedRecord


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


@pytest.fixture
def whole(folder, make):
    """The folder of a run of three steps that nothing is to be said of."""
    trained = TrainedRecord(step=2, members=())
    make.journal(folder, make.group(5, make.rolled_out(1.0, 0.0)), trained, make.commit(2, 5))
    (folder / "metrics.jsonl").write_text('{"step": 2, "progress/batch": 2}\n')
    (folder / "timeline.jsonl").write_text(
        '{"lane": "run", "name": "end", "at": 1, "seconds": 0}\n'
    )
    return folder


def test_a_page_is_written_into_the_folder_of_its_run(whole, run_view):
    status, out, err = run_view(whole)
    assert (status, err) == (0, "")
    path = whole / "view.html"
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
    assert err.splitlines()[:2] == [
        f"warning: {name} is no run's folder or journal; it is left out"
        for name in ("notes", "file.txt")
    ]


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_path_that_is_not_there_is_an_error_though_others_are_runs(other, run_view, is_traced):
    options = ["trace=t.json"] if is_traced else []
    for name, why in (("nowhere", "got nowhere, which is not there."), ("foo=3", "neither")):
        status, out, err = run_view(other, name, *options)
        assert (status, out) == (1, "")
        assert why in err
        assert not (other / "view.html").exists()
    assert "expected a run's folder or an option; got foo=3" in err
    assert run_view("foo=3", "--serve")[0] == 1


def test_a_folder_of_runs_names_them(other, whole, run_view, tmp_path):
    outer = tmp_path / "all runs"
    for name in ("b", "a"):
        shutil.copytree(other, outer / name)
    (outer / "notes").mkdir()
    for options in ([], ["--serve"]):
        status, _, err = run_view("all runs", *options)
        assert status == 1
        assert "got all runs, which holds 2 runs." in err
        assert err.rstrip().endswith("Name those to show: 'all runs/a' 'all runs/b'")
    assert run_view(*(outer / name for name in "ab"))[0] == 0


def test_what_the_pages_notes_say_is_said_on_stderr(whole, other, run_view):
    with (whole / "metrics.jsonl").open("a") as file:
        file.write("x\n" + '{"step": 4, "progress/batch": 4}' + "\n")
    status, out, err = run_view(whole, other)
    assert status == 0
    assert out.count("\n") == 1
    page = Path(out.rpartition(" (")[0]).read_text()
    data = re.search(r'id="tinker-data">(.*?)</script>', page)
    assert err.splitlines() == [
        f"note: {run['name']}: {note}"
        for run in json.loads(data[1])["runs"]
        for note in run["notes"]
    ]
    assert f"note: {whole.name}: Passed over in metrics.jsonl: 1 line" in err
    assert "journal.bin ends at step 2, though metrics.jsonl goes to step 4" in err
    assert "note: other: There is no journal.bin" in err


def test_what_a_trace_lacks_is_said_on_stderr(whole, run_view):
    assert run_view(whole, "trace=t.json")[2] == ""
    with (whole / "timeline.jsonl").open("a") as file:
        file.write("x\n")
    (whole / "metrics.jsonl").unlink()
    _, _, err = run_view(whole, "trace=t.json")
    assert err.startswith("note: Passed over in timeline.jsonl: 1 line")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "form", [["--out", "a.html"], ["--out=a.html"], ["out=a.html"], ["-o", "a.html"]]
)
def test_the_page_goes_where_it_is_asked_for(other, run_view, tmp_path, form):
    assert run_view(other, *form)[0] == 0
    assert (tmp_path / "a.html").is_file()
    assert not (other / "view.html").exists()


def test_too_small_a_bound_leaves_text_out_and_says_so(whole, run_view):
    status, _, err = run_view(whole, "max_mb=0.0001")
    assert status == 0
    assert "The text of 5 of 5 groups is left out" in err


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
        (["RUN", "--serve", "port=99999"], "port: expected 0 to 65535"),
        (["RUN", "--port", "5"], "port: expected --serve beside it"),
        (["RUN", "host=::1"], "host: expected --serve beside it"),
        (["RUN", "--serve", "--host", "192.0.2.1"], "expected an address of this machine; got 192"),
        (["RUN", "--no-such"], "unrecognized arguments: --no-such"),
        (["RUN", "out=no/such/view.html"], "Make the folder no/such, or choose another file with"),
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
