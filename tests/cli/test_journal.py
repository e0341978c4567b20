import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.cli.journal_report import ranges
from tinker_rl.rl.journal import Journal
from tinker_rl.rl.log_dir import lock_log_dir
from tinker_rl.tokenizers import get_tokenizer

ROOT = Path(__file__).parents[2]


def test_the_summary_tells_steps_groups_and_what_waits(folder, show, make):
    status, out, _ = show(folder)
    lines = make.squeezed(out)
    assert status == 0
    assert "steps 2, the last makes version 2" in lines
    assert "acting version 1" in lines
    assert "groups 5 finished: 2 trained, 1 dropped, 2 waiting; 1 empty" in lines
    assert "failed 2 dropped, 1 kept after failed attempts; --failed says why" in lines
    assert "sampled 88 tokens, 80 of them for groups that were dropped" in lines
    assert "starts from version 0" in lines
    assert "evaluated version 2: test/correct 0.75" in lines
    assert "(the console counts those done: its step 2 is 1 here)" in lines
    assert "0 0-1 01234567 1 0.500 0.25 1" in lines
    assert "1 3 1" in lines
    assert "2 version 1 rolled out 2 4 tokens 0.750" in lines
    assert "4 version 2 dropped 40 tokens" in lines


def test_a_run_that_has_done_nothing_yet_has_a_summary(tmp_path, show, make):
    Journal.open(tmp_path / "journal.bin").close()
    status, out, _ = show(tmp_path)
    assert status == 0
    assert "steps 0" in make.squeezed(out)
    assert "starts none" in make.squeezed(out)
    assert "failed none" in make.squeezed(out)
    assert "wait" not in out.replace("waiting", "")


def test_a_torn_end_is_told_and_left_alone(folder, show):
    path = folder / "journal.bin"
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"abc")
    status, out, _ = show(path)
    assert status == 0
    assert f"3 bytes at offset {size}" in out
    assert path.stat().st_size == size + 3


@pytest.mark.parametrize("form", [["--group", "0"], ["--group=0"], ["group=0"]])
def test_a_group_is_shown_as_text(folder, show, form):
    status, out, _ = show(folder, *form)
    assert status == 0
    assert "group 0, began with version 0, trained in step 0" in out
    assert "==== step 0, group 0, member 1: reward 0.000, advantage -0.500, completed" in out
    assert "two and two" in out


def test_a_group_that_waits_is_in_no_step_yet(folder, show):
    _, out, _ = show(folder, "--group", 2)
    assert "group 2, began with version 1, not trained yet" in out
    assert "member 2, attempt 0 failed: sampler, in sample: SamplerError: too slow" in out
    assert "==== group 2, member 0: reward 1.000" in out


def test_a_group_that_failed_says_why(folder, show):
    _, out, _ = show(folder, "--group", 1)
    assert "member 0, attempt 0 failed: sampler, in sample: SamplerError: too slow" in out
    assert "==== step 0, group 1, member 1: DROPPED" in out
    assert "environment, in step (my_env.py:12): OSError: gone" in out


def test_a_number_without_a_group_says_so(folder, show):
    _, out, _ = show(folder, "--group", 3)
    assert "the dataset has no group of this number" in out


@pytest.mark.parametrize("config", [None, "{}", "[]", '{"model_name": "no/such-model"}', "{"])
def test_without_a_tokenizer_token_ids_are_shown(folder, show, config):
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)
    status, out, err = show(folder, "--group", 0)
    assert status == 0
    assert "token ids are shown" in err
    assert " ".join(map(str, get_tokenizer("tiny").encode("two and two"))) in out


def test_journals_that_were_put_aside_are_named_with_how_to_read_them(folder, show):
    for number in (1, 2, 10):
        shutil.copyfile(folder / "journal.bin", folder / f"journal.{number}.bin")
    commands = [f"python -m tinker_rl journal {folder}/journal.{n}.bin" for n in (1, 2, 10)]
    out = show(folder)[1]
    assert [line.strip() for line in out.splitlines() if "python" in line] == commands
    for what in ("--step", "--group"):
        status, _, err = show(folder, what, 77)
        assert status == 1
        assert [line.strip() for line in err.splitlines() if "python" in line] == commands
    _, out, _ = show(folder / "journal.2.bin")
    assert [line.strip() for line in out.splitlines() if "python" in line] == commands[:1]
    assert "python" not in show(folder / "journal.1.bin")[1]


def test_a_step_that_is_not_there_says_how_steps_are_counted(folder, show):
    status, _, err = show(folder, "--step", 2)
    assert status == 1
    assert "expected a committed step (0-1); got 2" in err
    assert "what the console calls step 3 is step 2 here" in err


def test_a_damaged_journal_is_mended_by_the_command_that_its_error_names(folder, show):
    path = folder / "journal.bin"
    size = path.stat().st_size
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    status, _, err = show(folder)
    assert status == 1
    command = err.split("python -m tinker_rl journal ")[1].split(" (keeps")[0].split()
    status, out, _ = show(*command)
    assert status == 0
    assert f"cut off {size - int(command[-1])} bytes" in out
    assert Path(out.split("as it was: ")[1].strip()).read_bytes() == content
    assert show(folder)[0] == 0


def test_a_journal_that_a_run_writes_to_is_not_cut(folder, show):
    with lock_log_dir(folder):
        status, _, err = show(folder, "--cut", 20)
    assert status == 1
    assert "a run is under way" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--group", 77], "expected a group that finished or failed (0 to 4); got 77"),
        (["--group", "seven"], "invalid int value: 'seven'"),
        (["--cut", 21], "The nearest is 20"),
        (["--cut", 20, "--failed"], "not allowed with"),
        (["--grop", 7], "unrecognized arguments"),
    ],
)
def test_a_wrong_option_is_an_error(folder, show, arguments, said):
    status, _, err = show(folder, *arguments)
    assert status == 1
    assert said in err
    assert "Traceback" not in err


def test_a_folder_without_a_journal_is_an_error(tmp_path, show):
    for place in (tmp_path, tmp_path / "nowhere"):
        status, _, err = show(place)
        assert status == 1
        assert f"expected a run's folder, with a journal.bin, or that file; got {place}" in err
    Journal.open(tmp_path / "journal.bin").close()
    assert "(none yet); got 0" in show(tmp_path, "--group", 0)[2]


def test_a_place_that_cannot_be_written_to_is_an_error(folder, show):
    (folder / ".lock").mkdir()
    status, _, err = show(folder, "--cut", 20)
    assert status == 1
    assert "Is a directory" in err


def test_it_is_a_command_of_the_package_and_heeds_a_reader_that_leaves(folder):
    command = f"{sys.executable} -m tinker_rl journal {folder}"
    # The second reader has left before there is anything to read: only then is the pipe broken.
    script = f"{command} | head -c 9; {command} | head -c 0; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["journal", "1"]
    assert done.stderr == ""


@given(numbers=st.lists(st.integers(0, 20)))
def test_ranges_stand_for_exactly_their_numbers(numbers):
    read = []
    for run_of in filter(None, ranges(numbers).split(", ")):
        first, _, last = run_of.partition("-")
        read += range(int(first), int(last or first) + 1)
    assert read == numbers
