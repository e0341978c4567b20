"""What `journal RUN --failed` says, of groups of trained batches and of others."""

import io

import msgspec
import pytest
from rich.console import Console

from tinker_rl.cli.journal_failures import show_failures
from tinker_rl.cli.journal_report import show_summary
from tinker_rl.rl.journal import Journal
from tinker_rl.rl.outcomes import EnvFailure, InfraFailure, MemberFailure

GONE = EnvFailure("step", "OSError", "gone", "my_env.py:12")
SLOW = InfraFailure("sample", "SamplerError", "too slow")


def test_what_failed_is_counted_by_cause_and_listed_with_its_cost(folder, show, make):
    status, out, _ = show(folder, "--failed")
    gone = "OSError in step (my_env.py:12): gone"
    assert status == 0
    assert make.squeezed(out) == [
        f"2 of 4 groups failed: 2 x {gone}",
        "1 group kept after failed attempts",
        "",
        "group outcome member attempts wasted failure",
        f"1 dropped 1 2 40 tokens {gone}",
        "2 kept 2 1 0 tokens SamplerError in sample: too slow",
        f"4 dropped all 1 40 tokens {gone}",
    ]


@pytest.fixture
def stopped(tmp_path, make):
    """A run that stopped past its error budget: of its groups only number 5 is finished."""
    failures = [make.failure(number) for number in range(3)]
    last = make.failure(4, EnvFailure("step", "ValueError", "two\n lines"))
    make.journal(tmp_path, *failures, make.group(5, make.rolled_out(1.0, 0.0)), last)
    return tmp_path


def test_what_failed_in_a_run_that_trained_nothing_is_listed(stopped, show, make):
    _, out, _ = show(stopped, "--failed")
    lines = make.squeezed(out)
    assert lines[:4] == [
        "4 of 5 groups failed:",
        "3 x OSError in step (my_env.py:12): gone",
        "1 x ValueError in step: two lines",
        "4 groups to be tried again by a restart: their batches have not trained",
    ]
    assert "0 to be tried again 1 1 40 tokens OSError in step (my_env.py:12): gone" in lines
    assert "failed 4 to be tried again; --failed says why" in make.squeezed(show(stopped)[1])
    assert "sampled 164 tokens, 160 of them for groups that were dropped" in make.squeezed(
        show(stopped)[1]
    )


def test_a_group_that_only_failed_is_shown_with_its_failure(stopped, show):
    status, out, _ = show(stopped, "--group", 0)
    assert status == 0
    assert "group 0, began with version 0, dropped before its batch trained: a restart" in out
    assert "==== group 0, member 1: DROPPED" in out
    assert "environment, in step (my_env.py:12): OSError: gone" in out


def test_a_lone_group_is_one_group(tmp_path, show, make):
    make.journal(tmp_path, make.failure(0))
    assert make.squeezed(show(tmp_path, "--failed")[1])[:2] == [
        "1 of 1 group failed: 1 x OSError in step (my_env.py:12): gone",
        "1 group to be tried again by a restart: its batch has not trained",
    ]


def test_a_group_that_was_tried_again_is_listed_once_and_says_what_became_of_it(
    tmp_path, show, make
):
    again = MemberFailure(member=0, attempt=0, failure=SLOW)
    make.journal(
        tmp_path,
        *(make.failure(number) for number in (0, 1, 2, 0)),
        make.failure(0, SLOW),
        make.group(0, make.rolled_out(1.0, 0.0)),
        make.group(1, make.rolled_out(1.0, failures=(again,))),
        make.failure(2),
        make.group(2, make.dropped(GONE)),
        make.commit(0, 0, 2),
    )
    lines = make.squeezed(show(tmp_path, "--failed")[1])
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


def test_tokens_of_attempts_that_a_kept_group_does_without_are_wasted(tmp_path, show, make):
    failures = tuple(MemberFailure(member=member, attempt=0, failure=SLOW) for member in (0, 2))
    outcome = make.rolled_out(1.0, 0.0, failures=failures)
    make.journal(tmp_path, make.group(0, msgspec.structs.replace(outcome, num_sampled_tokens=11)))
    lines = make.squeezed(show(tmp_path, "--failed")[1])
    assert lines[0] == "no group failed for good"
    assert lines[-1] == "0 kept 0, 2 2 7 tokens SamplerError in sample: too slow"


def test_a_run_without_failures_says_so(tmp_path, show, make):
    make.journal(tmp_path, make.group(0, make.rolled_out(1.0, 0.0)))
    assert show(tmp_path, "--failed")[1] == "no group failed\n"


def on_a_terminal(show_it, path, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    with Journal.read(path) as journal:
        show_it(journal, console)
    return console.file.getvalue()


def test_rows_are_wrapped_on_terminals_only(tmp_path, show, make):
    make.journal(tmp_path, make.failure(0, EnvFailure("step", "OSError", "word " * 60)))
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
