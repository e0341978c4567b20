"""The line that a finding gives can be pasted, and finds the same."""

import ast
import tempfile
from functools import partial

import anyio
import pytest

from tinker_rl.envs import Env, EnvGroupBuilder, StepResult
from tinker_rl.rl import RolloutLimits
from tinker_rl.testing.cancellation import CancellationError, cancel_everywhere
from tinker_rl.testing.cancellation.replay_line import ReplayLine
from tinker_rl.types import ModelInput


class LeakyEnv(Env):
    """Loses its file, if it is one of those that do."""

    def __init__(self, is_leaky):
        self.is_leaky = is_leaky

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        self.file = tempfile.TemporaryFile() if self.is_leaky else None  # noqa: SIM115
        await anyio.sleep(1)
        if self.file is not None:
            self.file.close()
        return StepResult(1.0, True, ModelInput.empty(), [0])


class Builder(EnvGroupBuilder):
    def __init__(self, leaky_member=1, size=2):
        self.leaky_member = leaky_member
        self.size = size

    async def make_envs(self):
        return [LeakyEnv(place == self.leaky_member) for place in range(self.size)]

    @classmethod
    def of_three(cls):
        return cls(size=3)


def make_builder_of_three():
    return Builder.of_three()


def builders():
    size = 3
    return [
        (Builder, "Builder, ", ""),
        (make_builder_of_three, "make_builder_of_three, ", ""),
        (Builder.of_three, "Builder.of_three, ", ""),
        (partial(Builder, 0, size=3), "partial(Builder, 0, size=3), ", ""),
        (lambda: Builder(1, size=size), "lambda: Builder(1, size=size), ", "size = 3"),
        (lambda: Builder(), "lambda: Builder(), ", ""),
    ]


@pytest.mark.parametrize("number", range(len(builders())))
def test_the_line_of_a_finding_finds_it_again_where_it_is_pasted(number):
    builder, argument, comment = builders()[number]
    limits = RolloutLimits(max_turns=3)
    with pytest.raises(CancellationError) as raised:
        cancel_everywhere(builder, limits=limits, seed=2, settle_seconds=0.01)
    (line,) = (line for line in str(raised.value).splitlines() if "replay: " in line)
    code, _, remark = line.partition("replay: ")[2].partition("  # ")
    assert code.startswith(f"cancel_everywhere({argument}at=")
    assert remark == comment
    with pytest.raises(CancellationError) as again:
        eval(code, {**globals(), "size": 3})
    assert [f.text for f in again.value.report.findings] == [
        f.text for f in raised.value.report.findings
    ]


def test_what_stands_in_a_variable_is_named_by_it():
    mine = Builder()
    with pytest.raises(CancellationError, match=r"replay: cancel_everywhere\(mine, at=2, settle"):
        cancel_everywhere(mine, settle_seconds=0.01)


def test_what_has_no_name_is_left_to_the_reader():
    line = ReplayLine(Builder(), {"make_actor": Builder().make_envs, "seed": 3}, {}).at(4)
    assert line == (
        "cancel_everywhere(make_builder, at=4, make_actor=..., seed=3)"
        "  # make_builder makes the Builder, make_actor: as it was given"
    )
    two = [lambda: Builder(0), lambda: Builder(1)]
    shown = [ReplayLine(one, {}, {}).at(0).partition(",")[0] for one in two]
    assert shown == [f"cancel_everywhere(lambda: Builder({place})" for place in (0, 1)]
    made = eval("lambda: Builder()")
    assert "make_builder is the function that was given" in ReplayLine(made, {}, {}).at(0)
    ast.parse(ReplayLine(made, {"borrowed": made}, {}).at(0))
