import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tinker_rl.cli.journal import run
from tinker_rl.cli.journal_failures import show_failures
from tinker_rl.cli.journal_report import ranges, show_summary
from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Trajectory, TrajectoryGroup, Transition
from tinker_rl.rl.journal import (
    CommitRecord,
    EvaluationRecord,
    FailureRecord,
    GroupRecord,
    Journal,
    StartRecord,
)
from tinker_rl.rl.log_dir import lock_log_dir
from tinker_rl.rl.outcomes import (
    DroppedGroup,
    EnvFailure,
    InfraFailure,
    MemberFailure,
    RolledOutGroup,
)
from tinker_rl.tokenizers import get_tokenizer
from tinker_rl.types import ModelInput

ROOT = Path(__file__).parents[2]

GONE = EnvFailure("step", "OSError", "gone", "my_env.py:12")
SLOW = InfraFailure("sample", "SamplerError", "too slow")


def rolled_out(*rewards, text="two and two", failures=()):
    prompt = get_tokenizer("tiny").encode(text)
    trajectories = [
        Trajectory(
            [
                Transition(
                    ModelInput.from_ints(prompt),
                    TokensWithLogprobs(prompt[:2], [-0.5, -0.5], policy_version=1),
                    reward,
                    True,
                )
            ],
            ModelInput.empty(),
            "completed",
        )
        for reward in rewards
    ]
    return RolledOutGroup(
        group=TrajectoryGroup(trajectories, [0.0] * len(rewards), [{}] * len(rewards)),
        tags=(),
        num_sampled_tokens=2 * len(rewards),
        failures=failures,
    )


def dropped(failure, member=1, failures=()):
    return DroppedGroup(failure=failure, member=member, num_sampled_tokens=40, failures=failures)


OUTCOMES = [
    rolled_out(1.0, 0.0),
    dropped(
        GONE,
        failures=(
            MemberFailure(member=0, attempt=0, failure=SLOW),
            MemberFailure(member=1, attempt=1, failure=GONE),
        ),
    ),
    rolled_out(1.0, 0.5, failures=(MemberFailure(member=2, attempt=0, failure=SLOW),)),
    None,
    dropped(GONE, member=None),
]


@pytest.fixture
def folder(tmp_path):
    """A run of two steps, two of whose groups failed; group 2 and group 4 wait."""
    records = [StartRecord(version=0, weight_hash=None)]
    records += [
        GroupRecord(group=number, policy_version=number // 2, outcome=outcome)
        for number, outcome in enumerate(OUTCOMES)
    ]
    metrics = {"env/all/reward/total": 0.5, "async/staleness_mean": 0.25, "async/staleness_max": 1}
    records += [
        CommitRecord(
            step=0, groups=(0, 1), weight_hash="0123456789", acting_version=1, metrics=metrics
        ),
        CommitRecord(step=1, groups=(3,), weight_hash=None, acting_version=1),
        EvaluationRecord(version=2, metrics={"test/correct": 0.75}),
    ]
    with Journal.open(tmp_path / "journal.bin") as journal:
        for record in records:
            journal.append(record)
    (tmp_path / "config.json").write_text(json.dumps({"model_name": "tiny"}))
    return tmp_path


@pytest.fixture
def show(monkeypatch, capsys):
    """Runs the command inside this process; gives its exit status, and what it printed."""

    def show(*arguments):
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["tinker_rl journal", *map(str, arguments)])
        status = 0
        try:
            run()
        except SystemExit as left:
            status = left.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return show


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_summary_tells_steps_groups_and_what_waits(folder, show):
    status, out, _ = show(folder)
    lines = squeezed(out)
    assert status == 0
    assert "steps 2, the last makes version 2" in lines
    assert "acting version 1" in lines
    assert "groups 5 finished: 3 trained, 2 waiting; 1 empty" in lines
    assert "failed 2 dropped, 1 kept after failed attempts; --failed says why" in lines
    assert "sampled 88 tokens, 80 of them for groups that were dropped" in lines
    assert "starts from version 0" in lines
    assert "evaluated version 2: test/correct 0.75" in lines
    assert "(the console counts those done: its step 2 is 1)" in lines
    assert "0 0-1 01234567 1 0.500 0.25 1" in lines
    assert "1 3 1" in lines
    assert "2 version 1 rolled out 2 4 tokens 0.750" in lines
    assert "4 version 2 dropped 40 tokens" in lines


def test_a_run_that_has_done_nothing_yet_has_a_summary(tmp_path, show):
    Journal.open(tmp_path / "journal.bin").close()
    status, out, _ = show(tmp_path)
    assert status == 0
    assert "steps 0" in squeezed(out)
    assert "starts none" in squeezed(out)
    assert "failed none" in squeezed(out)
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


def test_what_failed_is_counted_by_cause_and_listed_with_its_cost(folder, show):
    status, out, _ = show(folder, "--failed")
    gone = "OSError in step (my_env.py:12): gone"
    assert status == 0
    assert squeezed(out) == [
        f"2 of 4 groups failed: 2 x {gone}",
        "1 group kept after failed attempts",
        "",
        "group outcome member attempts wasted failure",
        f"1 dropped 1 2 40 tokens {gone}",
        "2 kept 2 1 0 tokens SamplerError in sample: too slow",
        f"4 dropped all 1 40 tokens {gone}",
    ]


def failure(number, why=GONE, **fields):
    return FailureRecord(group=number, policy_version=0, outcome=dropped(why, **fields))


def journal_of(folder, *records):
    with Journal.open(folder / "journal.bin") as journal:
        for record in records:
            journal.append(record)


def group(number, outcome):
    return GroupRecord(group=number, policy_version=0, outcome=outcome)


def commit(step, *groups):
    return CommitRecord(step=step, groups=groups, weight_hash=None, acting_version=step + 1)


@pytest.fixture
def stopped(tmp_path):
    """A run that stopped past its error budget: of its groups only number 5 is finished."""
    failures = [failure(number) for number in range(3)]
    last = failure(4, EnvFailure("step", "ValueError", "two\n lines"))
    journal_of(tmp_path, *failures, group(5, OUTCOMES[0]), last)
    return tmp_path


def test_what_failed_in_a_run_that_trained_nothing_is_listed(stopped, show):
    _, out, _ = show(stopped, "--failed")
    lines = squeezed(out)
    assert lines[:4] == [
        "4 of 5 groups failed:",
        "3 x OSError in step (my_env.py:12): gone",
        "1 x ValueError in step: two lines",
        "4 groups to be tried again by a restart: their batches have not trained",
    ]
    assert "0 to be tried again 1 1 40 tokens OSError in step (my_env.py:12): gone" in lines
    assert "failed 4 to be tried again; --failed says why" in squeezed(show(stopped)[1])
    assert "sampled 164 tokens, 160 of them for groups that were dropped" in squeezed(
        show(stopped)[1]
    )


def test_a_group_that_only_failed_is_shown_with_its_failure(stopped, show):
    status, out, _ = show(stopped, "--group", 0)
    assert status == 0
    assert "group 0, began with version 0, dropped before its batch trained: a restart" in out
    assert "==== group 0, member 1: DROPPED" in out
    assert "environment, in step (my_env.py:12): OSError: gone" in out


def test_a_lone_group_is_one_group(tmp_path, show):
    journal_of(tmp_path, failure(0))
    assert squeezed(show(tmp_path, "--failed")[1])[:2] == [
        "1 of 1 group failed: 1 x OSError in step (my_env.py:12): gone",
        "1 group to be tried again by a restart: its batch has not trained",
    ]


def test_a_group_that_was_tried_again_is_listed_once_and_says_what_became_of_it(tmp_path, show):
    again = MemberFailure(member=0, attempt=0, failure=SLOW)
    journal_of(
        tmp_path,
        *(failure(number) for number in (0, 1, 2, 0)),
        failure(0, SLOW),
        group(0, OUTCOMES[0]),
        group(1, rolled_out(1.0, failures=(again,))),
        failure(2),
        group(2, dropped(GONE)),
        commit(0, 0, 2),
    )
    lines = squeezed(show(tmp_path, "--failed")[1])
    assert lines[:2] == [
        "1 of 3 groups failed: 1 x OSError in step (my_env.py:12): gone",
        "2 groups finished when tried again later",
    ]
    assert lines[4:] == [
        "0 tried again later: trained 1 3 120 tokens SamplerError in sample: too slow",
        "1 tried again later: finished 1 2 40 tokens OSError in step (my_env.py:12): gone",
        "2 dropped 1 2 80 tokens OSError in step (my_env.py:12): gone",
    ]
    _, out, _ = show(tmp_path, "--group", 0)
    assert out.count("dropped, and tried again later: ") == 3
    assert show(tmp_path, "--group", 2)[1].count("tried again later") == 0


def test_tokens_of_attempts_that_a_kept_group_does_without_are_wasted(tmp_path, show):
    failures = tuple(MemberFailure(member=member, attempt=0, failure=SLOW) for member in (0, 2))
    outcome = rolled_out(1.0, 0.0, failures=failures)
    journal_of(tmp_path, group(0, msgspec.structs.replace(outcome, num_sampled_tokens=11)))
    lines = squeezed(show(tmp_path, "--failed")[1])
    assert lines[0] == "no group failed for good"
    assert lines[-1] == "0 kept 0, 2 2 7 tokens SamplerError in sample: too slow"


def test_a_run_without_failures_says_so(tmp_path, show):
    journal_of(tmp_path, group(0, OUTCOMES[0]))
    assert show(tmp_path, "--failed")[1] == "no group failed\n"


def on_a_terminal(show_it, path, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    with Journal.read(path) as journal:
        show_it(journal, console)
    return console.file.getvalue()


def test_rows_are_wrapped_on_terminals_only(tmp_path, show):
    journal_of(tmp_path, failure(0, EnvFailure("step", "OSError", "word " * 60)))
    _, out, _ = show(tmp_path, "--failed")
    assert len(out.splitlines()) == 5
    on_terminal = on_a_terminal(show_failures, tmp_path / "journal.bin")
    table = on_terminal.split("\n\n")[1]
    assert table.count("word") == 60
    assert max(map(len, table.splitlines()[1:])) <= 80


def test_in_a_pipe_no_line_ends_in_blanks(folder, stopped, show):
    for arguments in ((folder,), (folder, "--failed"), (stopped, "--group", 0)):
        _, out, _ = show(*arguments)
        assert [line for line in out.splitlines() if line != line.rstrip()] == []


def test_the_figures_of_groups_fit_a_terminal_of_80_columns(folder):
    shown = on_a_terminal(show_summary, folder / "journal.bin")
    (line,) = [line for line in shown.splitlines() if "5 finished" in line]
    assert "1 empty" in line


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
    command = f"{sys.executable} -m tinker_rl journal {folder} --group 0 | head -c 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "g"
    assert done.stderr == ""
    assert (
        "journal"
        in subprocess.run(
            [sys.executable, "-m", "tinker_rl"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


@given(numbers=st.lists(st.integers(0, 20)))
def test_ranges_stand_for_exactly_their_numbers(numbers):
    read = []
    for run_of in filter(None, ranges(numbers).split(", ")):
        first, _, last = run_of.partition("-")
        read += range(int(first), int(last or first) + 1)
    assert read == numbers
