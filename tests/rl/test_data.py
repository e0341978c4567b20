import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Trajectory, Transition
from tinker_rl.errors import RequestError, ShapeError
from tinker_rl.rl.data import UNKNOWN_VERSION, assemble_training_data, trajectory_to_data
from tinker_rl.types import ModelInput

advantages = st.floats(-10, 10, width=32)


def tokens_of(sequence):
    """All tokens of a sequence: its input, and the last target."""
    targets = sequence.datum.loss_fn_inputs["target_tokens"].to_numpy().tolist()
    inputs = sequence.datum.model_input.to_ints()
    assert inputs[1:] == targets[:-1]
    return inputs[:1] + targets


def by_token(trajectory, advantage):
    """The same in plain Python: (tokens, trained logprobs, versions, advantages) of each run.

    One entry a token, None where it is not trained.
    """
    runs = []
    for transition in trajectory.transitions:
        observation = transition.ob.to_ints()
        if not runs or observation[: len(runs[-1])] != [token for token, *_ in runs[-1]]:
            runs.append([])
        run = runs[-1]
        run.extend((token, None, None, None) for token in observation[len(run) :])
        version = transition.ac.policy_version
        version = UNKNOWN_VERSION if version is None else version
        run.extend(
            (token, logprob, version, advantage)
            for token, logprob in zip(transition.ac.tokens, transition.ac.logprobs, strict=True)
        )
    return [run for run in runs if any(entry[1] is not None for entry in run)]


@given(data=st.data(), advantage=advantages)
def test_sequences_equal_a_token_by_token_account_of_the_episode(episodes, data, advantage):
    trajectory = data.draw(episodes.trajectories())
    sequences = trajectory_to_data(trajectory, advantage)
    expected = by_token(trajectory, advantage)
    assert len(sequences) == len(expected)
    for sequence, run in zip(sequences, expected, strict=True):
        assert tokens_of(sequence) == [token for token, *_ in run]
        inputs = sequence.datum.loss_fn_inputs
        columns = zip(
            inputs["logprobs"].to_numpy(),
            sequence.policy_version_T,
            inputs["advantages"].to_numpy(),
            sequence.loss_mask_T,
            strict=True,
        )
        for (_, logprob, version, gain), column in zip(run[1:], columns, strict=True):
            if logprob is None:
                assert tuple(column) == (0.0, UNKNOWN_VERSION, 0.0, False)
            else:
                assert tuple(column) == (logprob, version, gain, True)


@given(data=st.data())
def test_every_token_keeps_the_version_that_sampled_it(episodes, data):
    """Also where newer weights went on with an action."""
    trajectory = data.draw(episodes.trajectories())
    mixed, expected = [], []
    for transition in trajectory.transitions:
        versions = sorted(data.draw(st.integers(0, 5)) for _ in transition.ac.tokens)
        spans = tuple((v, versions.count(v)) for v in sorted(set(versions)))
        first = versions[0] if versions else None
        action = msgspec.structs.replace(
            transition.ac, policy_version=first, version_spans=spans or None
        )
        mixed.append(msgspec.structs.replace(transition, ac=action))
        expected += versions
    sequences = trajectory_to_data(msgspec.structs.replace(trajectory, transitions=mixed), 1.0)
    got = [v for s in sequences for v in s.policy_version_T[s.loss_mask_T]]
    assert got == expected
    for sequence in sequences:
        assert set(sequence.policy_version_T[~sequence.loss_mask_T]) <= {UNKNOWN_VERSION}


@given(data=st.data(), advantage=advantages)
def test_every_action_token_trains_exactly_once(episodes, data, advantage):
    trajectory = data.draw(episodes.trajectories())
    trained = [
        pair
        for sequence in trajectory_to_data(trajectory, advantage)
        for pair in zip(
            sequence.datum.loss_fn_inputs["target_tokens"].to_numpy()[sequence.loss_mask_T],
            sequence.sampler_logprobs_T[sequence.loss_mask_T],
            strict=True,
        )
    ]
    taken = [
        pair
        for transition in trajectory.transitions
        for pair in zip(transition.ac.tokens, transition.ac.logprobs, strict=True)
    ]
    assert trained == taken


@given(data=st.data())
def test_an_episode_that_only_grows_is_one_sequence(episodes, data):
    turns = data.draw(
        st.lists(
            st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=4), episodes.actions(1)),
            min_size=1,
            max_size=5,
        )
    )
    history, transitions = [], []
    for new, action in turns:
        history = history + new
        transitions.append(
            Transition(ob=ModelInput.from_ints(history), ac=action, reward=0.0, episode_done=False)
        )
        history = history + action.tokens
    trajectory = Trajectory(transitions=transitions, final_ob=ModelInput.empty())
    (sequence,) = trajectory_to_data(trajectory, 1.0)
    assert tokens_of(sequence) == history


@given(data=st.data())
def test_groups_and_members_are_found_again(episodes, data):
    groups = data.draw(st.lists(episodes.groups(max_size=3), max_size=3))
    gains = [
        np.array([10.0 * place + member + 1 for member in range(len(group.trajectories_G))])
        for place, group in enumerate(groups)
    ]
    assembled = assemble_training_data(groups, gains)
    assert len(assembled) == len(groups)
    for place, sequences in enumerate(assembled):
        for sequence in sequences:
            assert sequence.group == place
            seen = sequence.datum.loss_fn_inputs["advantages"].to_numpy()[sequence.loss_mask_T]
            assert set(seen.tolist()) == {10.0 * place + sequence.member + 1}


def episode(observation, action):
    transition = Transition(
        ob=ModelInput.from_ints(observation), ac=action, reward=0.0, episode_done=True
    )
    return Trajectory(transitions=[transition], final_ob=ModelInput.empty())


def test_dtypes_are_those_of_the_api():
    (sequence,) = trajectory_to_data(episode([1, 2], TokensWithLogprobs([3], [-0.5])), 1.0)
    dtypes = {key: data.dtype for key, data in sequence.datum.loss_fn_inputs.items()}
    assert dtypes == {"target_tokens": "int64", "logprobs": "float32", "advantages": "float32"}


def test_an_action_on_an_empty_observation_is_refused():
    with pytest.raises(ShapeError, match="at least one token before an action"):
        trajectory_to_data(episode([], TokensWithLogprobs([3], [-0.5])), 1.0)


def test_an_action_without_logprobs_is_refused():
    with pytest.raises(RequestError, match="got none from this completer"):
        trajectory_to_data(episode([1], TokensWithLogprobs([3], None)), 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(bad):
    with pytest.raises(ShapeError, match="finite number"):
        trajectory_to_data(episode([1], TokensWithLogprobs([3], [-0.5])), bad)
    with pytest.raises(ShapeError, match="finite logprobs"):
        trajectory_to_data(episode([1], TokensWithLogprobs([3], [bad])), 1.0)
