"""A run's folder, whatever of it is there."""

import json
import os
import re
import shutil

import pytest

from tinker_rl.errors import ConfigError, EnvError
from tinker_rl.rl.log_dir import lock_log_dir
from tinker_rl.rl.timeline import Timeline
from tinker_rl.viewer.reader import RunReader


@pytest.fixture
def read(request):
    def read(folder):
        run = RunReader(folder)
        request.addfinalizer(run.close)
        run.poll()
        return run

    return read


ROW = {"step": 0, "progress/batch": 0, "progress/done_frac": 0.25, "env/all/reward/total": 0.5}


@pytest.mark.parametrize("what", ["nothing", "other files", "no folder", "another file"])
def test_what_is_no_run_is_refused_with_what_was_expected(tmp_path, what):
    path = tmp_path / "runs"
    if what != "no folder":
        path.mkdir()
    if what == "other files":
        (path / "config.json").write_text('{"name": "another program"}')
    if what == "another file":
        path = path / "notes.txt"
        path.write_text("hello")
    with pytest.raises(ConfigError, match=r"expected a run's folder.*The folder is the run's log"):
        RunReader(path)


def test_a_run_that_has_only_begun_has_a_page_with_notes(folder, read):
    head = read(folder).head("0")
    missing = ("no metrics.jsonl", "no timeline.jsonl", "no journal.bin")
    assert all(any(name in note for note in head["notes"]) for name in missing)
    assert head["counts"] == {"episodes": 0, "groups": 0, "dropped": 0, "spans": 0}
    assert head["facts"]["state"] == "unknown"
    assert head["config"]["dataset_builder.n"] == 3


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (None, "stopped", None),
        (OSError("disk gone"), "failed", "OSError: disk gone"),
        (ExceptionGroup("", [EnvError("3 of 8 groups failed")]), "failed", "EnvError: 3 of 8 gro"),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), "interrupted", None),
        ("kill", "killed", None),
    ],
    ids=["told to end", "error", "error in a group", "cancelled", "killed"],
)
def test_it_says_how_a_run_ended(folder, read, error, state, reason):
    """As the timeline of a run has it; a run that goes on from there is told of by its lock."""
    (folder / ".lock").touch()
    timeline = Timeline(folder / "timeline.jsonl")
    timeline.__enter__()
    timeline.flush()
    if error != "kill":
        timeline.__exit__(None, error, None)
    run = read(folder)
    facts = run.head("0")["facts"]
    assert facts["state"] == state
    assert facts["reason"] == reason or facts["reason"].startswith(reason)
    with lock_log_dir(folder):
        assert run.head("0")["facts"]["state"] == "running"
    timeline.close()


def test_a_run_of_supervised_learning_has_curves(tmp_path, read, make):
    rows = [{"step": n, "train_mean_nll": 2.0 / (n + 1)} for n in range(3)]
    make.append_lines(tmp_path / "metrics.jsonl", *rows)
    run = read(tmp_path)
    assert run.part("metrics") == {"steps": [0, 1, 2], "series": {"train_mean_nll": [2, 1, 2 / 3]}}
    assert run.head("0")["facts"]["steps_done"] == 3
    assert run.part("episodes")["count"] == 0


def test_rows_are_told_apart_and_steps_counted(folder, read, make):
    make.append_lines(folder / "metrics.jsonl", ROW, {"step": 1, "test/env/all/correct": 0.25})
    run = read(folder)
    assert run.part("metrics")["series"]["env/all/reward/total"] == [0.5]
    found = {"steps": [1], "series": {"test/env/all/correct": [0.25]}}
    assert run.part("evaluations") == found
    facts = run.head("0")["facts"]
    assert (facts["steps_done"], facts["steps_planned"], facts["model"]) == (1, 4, "tiny")
    assert run.training_metric("env/all/reward/total") == {0: 0.5}


def test_each_part_has_a_revision_of_its_own(folder, read, make):
    run = read(folder)

    def changed(act):
        before = run.head("0")["revision"]
        act()
        run.poll()
        after = run.head("0")["revision"]
        assert all(after[part] >= before[part] for part in after)
        return {part for part in after if after[part] > before[part]}

    metrics, timeline = folder / "metrics.jsonl", folder / "timeline.jsonl"
    assert changed(lambda: None) == set()
    assert changed(lambda: make.append_lines(metrics, ROW)) == {"metrics"}
    assert changed(lambda: make.append_lines(metrics, {"step": 0, "test/a": 1})) == {"evaluations"}
    span = {"lane": "run", "name": "start", "at": 5.0, "seconds": 0}
    assert changed(lambda: make.append_lines(timeline, span)) == {"timeline"}
    group = make.group(0, make.simple(1.0))
    assert changed(lambda: make.append(folder, group)) == {"episodes"}
    assert run.head("0")["facts"]["started_at"] == 5.0


def test_a_run_that_was_deleted_and_started_again_is_another_generation(folder, read, make):
    make.append(folder, make.group(0, make.simple(1.0, 0.0)))
    make.append_lines(folder / "metrics.jsonl", ROW, ROW | {"step": 1})
    run = read(folder)
    config = (folder / "config.json").read_text()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "config.json").write_text(config)
    make.append(folder, make.group(0, make.simple(1.0)))
    make.append_lines(folder / "metrics.jsonl", ROW)
    assert run.poll()
    head = run.head("0")
    assert head["generation"] == 1
    assert head["counts"]["episodes"] == 1
    assert run.part("metrics")["steps"] == [0]


def test_a_run_without_a_journal_that_starts_again_is_another_generation(tmp_path, read, make):
    make.append_lines(tmp_path / "metrics.jsonl", {"step": 0, "loss": 1}, {"step": 1, "loss": 1})
    run = read(tmp_path)
    os.truncate(tmp_path / "metrics.jsonl", 5)
    run.poll()
    assert run.head("0")["generation"] == 1


def test_journals_that_were_put_aside_are_named_and_can_be_looked_at(folder, read, make):
    make.append(folder, make.group(0, make.simple(1.0, 0.0)))
    for number in (2, 10):
        shutil.copyfile(folder / "journal.bin", folder / f"journal.{number}.bin")
    os.rename(folder / "journal.bin", folder / "journal.1.bin")
    make.append(folder, make.group(0, make.simple(1.0)))
    run = read(folder)
    assert run.head("0")["counts"]["episodes"] == 1
    older = " ".join(str(folder / f"journal.{number}.bin") for number in (1, 2, 10))
    assert any(f"python -m tinker_rl view {older} shows" in note for note in run.head("0")["notes"])
    aside = read(folder / "journal.2.bin")
    assert aside.head("0")["counts"]["episodes"] == 2
    assert aside.name == f"{folder.name}/journal.2.bin"
    (note,) = [note for note in aside.head("0")["notes"] if "options changed" in note]
    assert "journal.1.bin shows" in note


def test_a_run_of_an_earlier_version_says_what_it_lacks(folder, read, make):
    make.append(folder, make.group(0, make.simple(1.0, 0.0)), make.commit(0, 0))
    notes = read(folder).head("0")["notes"]
    assert any("what the learner made of each token" in note for note in notes)
    make.append(folder, make.group(1, make.simple(1.0)), make.trained(1, (1, 0, [-1, -1], [0])))
    make.append(folder, make.commit(1, 1))
    notes = read(folder).head("0")["notes"]
    assert not any("what the learner made of each token" in note for note in notes)


def test_what_cannot_be_read_is_told(folder, read, make):
    (folder / "config.json").write_text(json.dumps({"model_name": "no/such", "log_path": "x"}))
    (folder / "metrics.jsonl").write_text("x\n")
    (folder / "timeline.jsonl").write_text("[]\n")
    (folder / "journal.bin").write_text("a diary\n")
    notes = "\n".join(read(folder).head("0")["notes"])
    assert "Passed over in metrics.jsonl: 1 line that" in notes
    assert "Passed over in timeline.jsonl: 1 line that" in notes
    assert "Token ids are shown" in notes
    assert "expected the beginning of a journal" in notes


def notes_of_ended(folder, read, make, num_bytes, fill=b"", num_rows=2):
    """The notes of a run of two steps that ended, of whose journal so many bytes are left."""
    make.append(folder, make.start())
    for step in range(2):
        made = make.group(step, make.simple(1.0, 0.0)), make.trained(step, (step, 0, [-1, -1], [0]))
        make.append(folder, *made, make.commit(step, step))
    rows = [ROW | {"step": step, "progress/batch": step} for step in range(num_rows)]
    make.append_lines(folder / "metrics.jsonl", *rows)
    marks = [{"lane": "run", "name": name, "at": 5.0, "seconds": 0} for name in ("start", "end")]
    make.append_lines(folder / "timeline.jsonl", *marks)
    path = folder / "journal.bin"
    path.write_bytes(path.read_bytes()[:num_bytes] + fill)
    return read(folder).head("0")["notes"]


def test_a_journal_that_has_lost_its_end_is_told(folder, read, make):
    (note,) = notes_of_ended(folder, read, make, 400, b"\0" * 500)
    assert note.startswith("journal.bin has no step, though metrics.jsonl goes to step 1: ")
    (num_bytes,) = re.findall(r"Its last (\d+) bytes are no whole record\.", note)
    assert int(num_bytes) > 500
    assert f"python -m tinker_rl journal {folder} says" in note


def test_a_journal_that_lacks_the_last_commit_is_told(folder, read, make):
    (note,) = notes_of_ended(folder, read, make, -3)
    assert "journal.bin ends at step 0, though metrics.jsonl goes to step 1" in note


def test_steps_that_are_in_a_journal_that_was_put_aside_are_no_loss(folder, read, make):
    notes_of_ended(folder, read, make, None)
    os.rename(folder / "journal.bin", folder / "journal.1.bin")
    make.append(folder)
    assert not any("lost" in note for note in read(folder).head("0")["notes"])
    make.append(folder, make.start(2))
    for name in ("journal.bin", "journal.1.bin"):
        assert not any("lost" in note for note in read(folder / name).head("0")["notes"])


def test_bytes_behind_the_journal_of_a_run_that_ended_are_told(folder, read, make):
    (note,) = notes_of_ended(folder, read, make, None, b"\7" * 9)
    assert "written over after the run had ended. Its last 9 bytes are no whole record" in note


@pytest.mark.parametrize("is_running", [False, True])
def test_a_record_that_a_kill_tore_and_steps_to_be_done_again_are_no_loss(
    folder, read, make, is_running
):
    if is_running:
        with lock_log_dir(folder):
            assert notes_of_ended(folder, read, make, 400, b"\0" * 500) == []
        return
    assert notes_of_ended(folder, read, make, None) == []
    start = {"lane": "run", "name": "start", "at": 9.0, "seconds": 0}
    make.append_lines(folder / "timeline.jsonl", start)
    make.append(folder, make.start(1))
    with (folder / "journal.bin").open("ab") as file:
        file.write(b"\7" * 9)
    assert read(folder).head("0")["notes"] == []


def test_files_that_are_there_and_cannot_be_read_are_not_called_missing(folder, read):
    (folder / "config.json").write_text("{")
    for name in ("metrics.jsonl", "journal.bin"):
        (folder / name).mkdir()
    (folder / "timeline.jsonl").touch()
    run = read(folder)
    notes = "\n".join(run.head("0")["notes"])
    assert "config.json cannot be read: Expecting property name" in notes
    assert "metrics.jsonl cannot be read: Is a directory." in notes
    assert "journal.bin: expected a file; got a folder." in notes
    assert "There is no" not in notes
    (folder / "metrics.jsonl").rmdir()
    (folder / "metrics.jsonl").write_text(json.dumps(ROW) + "\n")
    (folder / "config.json").write_text("[]")
    assert run.poll()
    assert run.part("metrics")["steps"] == [0]
    assert run.unreadable == {"config.json": "expected a JSON object; got list"}


def test_text_of_a_config_is_text_whatever_the_file_had(folder, read):
    (folder / "config.json").write_text('{"log_path": "\\ud800", "model_name": "\\udfff</script>"}')
    head = read(folder).head("0")
    assert head["config"]["log_path"] == "?"
    assert head["facts"]["model"] == "?</script>"
