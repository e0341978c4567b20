import enum
import math
import subprocess
import sys
from fractions import Fraction

import anyio
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import (
    Env,
    EnvGroupBuilder,
    RLDatasetBuilder,
    StepResult,
    StopReason,
    Trajectory,
    TrajectoryGroup,
    Transition,
)
from tinker_rl.errors import RequestError, ShapeError, UnknownNameError
from tinker_rl.types import ModelInput, decode, encode

finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.characters()  # half surrogate pairs too
model_inputs = st.lists(st.integers(0, 2**31)).map(ModelInput.from_ints)
numbers = (
    finite
    | st.integers()
    | st.booleans()
    | finite.map(np.float64)
    | st.floats(width=32, allow_nan=False).map(np.float32)
    | st.integers(-(2**63), 2**63 - 1).map(np.int64)
    | st.fractions()
)
metrics = st.dictionaries(st.text(anything, max_size=5), numbers, max_size=3)
logs = st.dictionaries(
    st.text(anything, max_size=5),
    st.text(anything) | st.integers() | st.floats(allow_nan=False) | st.none() | st.binary(),
    max_size=3,
)
stops = st.lists(st.text()) | st.lists(st.integers(0, 2**31))


def actions():
    return st.lists(st.tuples(st.integers(0, 2**31), st.floats(max_value=0)), max_size=5).map(
        lambda pairs: TokensWithLogprobs([t for t, _ in pairs], [p for _, p in pairs], "length", 3)
    )


@st.composite
def groups(draw):
    size = draw(st.integers(0, 3))
    transitions = st.builds(
        Transition, model_inputs, actions(), finite, st.booleans(), metrics, logs
    )
    trajectories = st.builds(
        Trajectory,
        st.lists(transitions, max_size=3),
        model_inputs,
        st.none() | st.sampled_from(StopReason),
    )
    return TrajectoryGroup(
        draw(st.lists(trajectories, min_size=size, max_size=size)),
        draw(st.lists(finite, min_size=size, max_size=size)),
        draw(st.lists(metrics, min_size=size, max_size=size)),
    )


@given(group=groups())
def test_a_group_is_read_from_a_journal_as_it_was_written(group):
    assert decode(encode(group), TrajectoryGroup) == group


@given(observation=model_inputs, stop=stops, reward=finite, metrics=metrics, logs=logs)
def test_a_step_is_read_from_a_journal_as_it_was_written(observation, stop, reward, metrics, logs):
    result = StepResult(reward, False, observation, stop, metrics, logs)
    assert decode(encode(result), StepResult) == result


@given(values=metrics)
def test_metrics_keep_their_values_whatever_kind_of_number_they_were(values):
    kept = StepResult(0.0, True, ModelInput.empty(), [], values).metrics
    assert all(type(value) in (int, float) for value in kept.values())
    assert sorted(kept.values()) == sorted(
        v if type(v) is int and -(2**63) <= v < 2**63 else float(v) for v in values.values()
    )


@given(rewards=st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=4), data=st.data())
def test_the_return_of_an_episode_is_the_sum_of_its_rewards(rewards, data):
    final = data.draw(st.lists(st.integers(-9, 9), min_size=len(rewards), max_size=len(rewards)))
    action = TokensWithLogprobs([1], [0.0])
    empty = ModelInput.empty()
    group = TrajectoryGroup(
        [Trajectory([Transition(empty, action, r, False) for r in row], empty) for row in rewards],
        final,
        [{} for _ in rewards],
    )
    assert group.get_total_rewards() == [
        sum(row) + last for row, last in zip(rewards, final, strict=True)
    ]


@given(reward=st.sampled_from([math.nan, math.inf, -math.inf, None, "1", b"1", [1.0], 10**400, {}]))
def test_what_is_no_finite_number_is_no_reward(reward):
    with pytest.raises(RequestError, match=r"StepResult\.reward: expected a"):
        StepResult(reward, True, ModelInput.empty(), [])
    with pytest.raises(RequestError, match=r"final_rewards_G\[0\]"):
        TrajectoryGroup([Trajectory([], ModelInput.empty())], [reward], [{}])


@given(value=st.sampled_from(["12", None, [1], object()]))
def test_what_is_no_number_is_no_metric(value):
    with pytest.raises(RequestError, match=r"metrics\['size'\]"):
        StepResult(0.0, True, ModelInput.empty(), [], {"size": value})


def test_nan_metrics_are_kept_for_they_are_not_trained_on():
    result = StepResult(0.0, True, ModelInput.empty(), [], {"loss": math.nan})
    assert math.isnan(decode(encode(result), StepResult).metrics["loss"])


@given(reason=st.sampled_from(StopReason))
def test_an_episode_either_terminated_or_was_truncated_never_both(reason):
    result = StepResult(0.0, True, ModelInput.empty(), [], stop_reason=reason)
    trajectory = Trajectory([], ModelInput.empty(), reason)
    assert result.terminated != result.truncated
    assert (trajectory.terminated, trajectory.truncated) == (result.terminated, result.truncated)


def test_limits_truncate_and_the_task_terminates():
    truncated = {reason.value for reason in StopReason if reason.truncated}
    assert truncated == {
        "max_turns",
        "max_tokens",
        "max_sampled_tokens",
        "max_tool_calls",
        "context_overflow",
        "rollout_timeout",
    }


def test_an_environment_that_is_done_and_says_nothing_has_terminated():
    result = StepResult(1, True, ModelInput.empty(), [])
    assert (result.stop_reason, result.terminated, result.reward) == ("completed", True, 1.0)


def test_an_episode_that_goes_on_has_neither_terminated_nor_been_truncated():
    result = StepResult(0.0, False, ModelInput.empty(), [])
    assert not result.terminated
    assert not result.truncated
    unknown = Trajectory([], ModelInput.empty())
    assert not unknown.terminated
    assert not unknown.truncated
    with pytest.raises(RequestError, match="episode_done=True"):
        StepResult(0.0, False, ModelInput.empty(), [], stop_reason=StopReason.MAX_TURNS)


def test_a_stop_reason_may_be_written_as_text_and_is_checked():
    assert Trajectory([], ModelInput.empty(), "max_turns").stop_reason is StopReason.MAX_TURNS
    with pytest.raises(UnknownNameError, match="Did you mean 'max_turns'"):
        Trajectory([], ModelInput.empty(), "max_turn")
    with pytest.raises(msgspec.ValidationError):
        decode(
            encode({"transitions": [], "final_ob": {"chunks": []}, "stop_reason": "?"}), Trajectory
        )


@pytest.mark.parametrize(("rewards", "metrics"), [([], [{}]), ([0.0], []), ([0.0, 0.0], [{}])])
def test_a_group_has_one_final_reward_and_one_metrics_per_episode(rewards, metrics):
    with pytest.raises(ShapeError, match="one per trajectory"):
        TrajectoryGroup([Trajectory([], ModelInput.empty())], rewards, metrics)


def test_a_number_of_another_kind_becomes_pythons_own():
    class Level(enum.IntEnum):
        HIGH = 3

    result = StepResult(
        Fraction(1, 2), np.bool_(True), ModelInput.empty(), [], {"level": Level.HIGH}, {"x": 2**70}
    )
    assert (result.reward, result.episode_done) == (0.5, True)
    assert type(result.episode_done) is bool
    assert (result.metrics, result.logs) == ({"level": 3.0}, {"x": str(2**70)})


def test_a_group_builder_needs_nothing_but_environments(backend):
    class Silent(Env):
        async def initial_observation(self):
            return ModelInput.from_ints([1]), [2]

        async def step(self, action):
            return StepResult(0.0, True, ModelInput.empty(), [])

    class Builder(EnvGroupBuilder):
        async def make_envs(self):
            return [Silent(), Silent()]

    async def play():
        builder = Builder()
        envs = await builder.make_envs()
        trajectories = [Trajectory([], ModelInput.empty()) for _ in envs]
        assert await builder.compute_group_rewards(trajectories, envs) == [(0.0, {}), (0.0, {})]
        assert await builder.cleanup() is None
        assert builder.logging_tags() == []

    anyio.run(play, backend=backend)


def test_a_dataset_builder_without_a_call_says_what_to_define(backend):
    with pytest.raises(NotImplementedError, match="async def __call__"):
        anyio.run(RLDatasetBuilder(), backend=backend)


def test_importing_environments_and_completers_leaves_torch_unimported():
    code = (
        "import tinker_rl.envs, tinker_rl.completers, tinker_rl.data, sys;"
        "heavy = {'torch', 'transformers', 'math_verify', 'sympy', 'datasets', 'tinker_rl.engine'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
