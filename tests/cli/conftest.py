"""A run's journal for the command to show, and what to make others of."""

import json
import sys
from types import SimpleNamespace

import pytest

from tinker_rl.cli.journal import run
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
from tinker_rl.rl.outcomes import (
    DroppedGroup,
    EnvFailure,
    InfraFailure,
    MemberFailure,
    RolledOutGroup,
)
from tinker_rl.tokenizers import get_tokenizer
from tinker_rl.types import ModelInput

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


@pytest.fixture(scope="session")
def make():
    """Outcomes, records, and journals of them."""
    return SimpleNamespace(
        rolled_out=rolled_out,
        dropped=dropped,
        failure=failure,
        group=group,
        commit=commit,
        journal=journal_of,
        squeezed=squeezed,
    )


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]
